#!/usr/bin/env node
import { cli } from './command.ts'

process.exit(await cli(process.argv.slice(2)))
