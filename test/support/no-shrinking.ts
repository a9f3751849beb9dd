import fc from 'fast-check'

// That a property fails is all that a mutant's run has to find out.
fc.configureGlobal({ endOnFailure: true })
