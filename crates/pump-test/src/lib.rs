//! For tests: servers, a load client that sees each socket's fate, booted machines.
