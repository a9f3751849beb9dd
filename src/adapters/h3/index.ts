export { checkGateway, createGateway } from './gateway.ts'
export type { Gateway, GatewayStats } from './gateway.ts'
export type { CloseOptions, GatewayListener } from './listen.ts'
export type { Reached } from './forwarded.ts'
export type { RequestRecord, RequestTrace } from './observe.ts'
export type {
  AdoptOptions,
  AdoptedSession,
  ClientLimits,
  GatewayOptions,
  ListenOptions,
  SignOptions,
  TlsOptions,
  UpstreamTimeouts,
} from './options.ts'
export { problems } from './problem.ts'
export type { GatewayFailure, Problem, ProblemCode } from './problem.ts'
export { bearerToken, trustedHeader } from './identity/authorize.ts'
export type { Authorizer, BearerOptions, Principal, TokenLookup, TrustedHeaderOptions } from './identity/authorize.ts'
export { sessionKey } from './identity/identify.ts'
export type { IssueOptions } from './identity/issue.ts'
export { fromCookie, fromHeader, fromPath, fromQuery } from './identity/session-id.ts'
export type { IdCarrier, SessionIdMatch, SessionIdResult, SessionIdSource } from './identity/session-id.ts'
export { createIdSigner } from './identity/signature.ts'
export type { IdSigner, SigningKey } from './identity/signature.ts'
