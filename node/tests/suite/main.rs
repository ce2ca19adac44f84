//! Integration tests of the node's parts, in one binary.
