export type SessionEndReason = 'released' | 'expired' | 'max-age' | 'lost' | 'drained'
