//! Proves what a daemon can do.
