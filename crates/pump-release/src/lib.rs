//! What a release is, and which releases may run beside which.
