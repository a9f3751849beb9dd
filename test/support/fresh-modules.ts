import { vi } from 'vitest'

// Without isolation Vitest keeps modules from one run to the next, and with them the mutant of the run before.
vi.resetModules()
