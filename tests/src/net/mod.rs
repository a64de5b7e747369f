//! Network namespaces that exist only for one test: made, joined and filled by system calls.

mod netlink;
mod netns;
mod topology;

pub use netns::Netns;
pub use topology::{A4, A6, B4, B6, BOTH4, NO_ROUTE4, Network, SILENT4, SILENT6, UNREACHABLE4, UNREACHABLE6};
