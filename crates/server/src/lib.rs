//! Master, workers, generations, reload, signals.
