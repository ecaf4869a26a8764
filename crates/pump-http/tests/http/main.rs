//! The whole service in this process, asked as clients ask it, on a database of its own.

mod api;
mod feed;
mod limits;
mod pages;
mod probe;
mod routes;
mod safety;
mod server;
mod streaming;
