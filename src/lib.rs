//! The qcc compiler as a library.
