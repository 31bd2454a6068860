//! Readers of model files into the typed graph.
