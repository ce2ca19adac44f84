//! Wire types, SDK and command line of Whimbrel.
