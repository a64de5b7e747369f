//! What is done when a hook fires, the same for every plan.

pub(crate) mod life;
pub(crate) mod peer;
pub(crate) mod seen;
pub(crate) mod tcp;
pub(crate) mod udp;
