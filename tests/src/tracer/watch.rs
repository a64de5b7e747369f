//! The tracer that a scenario watches with: the common one, or one of its own.

use std::ops::Deref;

use anyhow::Result;

use super::{Follower, Live, Run, Stream};

/// A running `live --json --all`.
pub enum Watch {
    /// The one that all scenarios follow.
    Common(Follower),
    /// One of the scenario's own, where there is no common one.
    Own(Box<Live>),
}

impl Watch {
    /// Everything that it told of what was caused so far.
    ///
    /// # Errors
    /// When it does not come that far, or does not end as it should.
    pub fn finish(self) -> Result<Run> {
        match self {
            Self::Common(follower) => follower.finish(),
            Self::Own(live) => Ok(live.finish()?.run),
        }
    }
}

impl Deref for Watch {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        match self {
            Self::Common(follower) => follower,
            Self::Own(live) => live,
        }
    }
}
