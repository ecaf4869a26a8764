//! ActivityStreams vocabulary: JSON in and out. No I/O.
