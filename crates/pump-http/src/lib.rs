//! The only axum: routes, pages, and problems turned into answers.
