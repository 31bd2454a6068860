//! The text form: graphs that people read and tools parse.
