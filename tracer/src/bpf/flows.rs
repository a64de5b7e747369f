//! The kernel side's table of UDP flows, in this process's own memory.

use std::sync::atomic::Ordering;

use aya::maps::{Map, MapError};
use tracer_common::{FLOW_SETS, FLOW_WAYS, Flow, FlowKey, FlowWords, flow_set};
use zerocopy::transmute;

use super::mapped::Mapped;

const FLOW: usize = size_of::<Flow>() / size_of::<u64>();
/// Places of a flow's words: the key comes first, the count after it.
const COUNT: usize = size_of::<FlowKey>() / size_of::<u64>();
const WORDS: usize = FLOW_SETS as usize * FLOW_WAYS * FLOW;

/// The table.
pub struct Flows(Mapped);

impl TryFrom<Map> for Flows {
    type Error = MapError;

    /// Maps the table.
    ///
    /// # Errors
    /// When it is another kind of map, or the kernel does not map it.
    fn try_from(map: Map) -> Result<Self, MapError> {
        Mapped::new(map, WORDS).map(Self)
    }
}

impl Flows {
    /// Datagrams of a flow so far; nothing when it had to give way to another one.
    #[must_use]
    pub fn count(&self, key: FlowKey) -> Option<u64> {
        self.find(key).map(|place| self.0.get(place + COUNT))
    }

    /// Makes the flow's place free.
    pub fn remove(&self, key: FlowKey) {
        if let Some(place) = self.find(key) {
            (place..place + FLOW).for_each(|word| self.0.word(word).store(0, Ordering::Relaxed));
        }
    }

    fn find(&self, key: FlowKey) -> Option<usize> {
        let key: FlowWords = transmute!(key);
        let set = flow_set(&key) as usize * FLOW_WAYS;
        let mut places = (set..set + FLOW_WAYS).map(|way| way * FLOW);
        places.find(|place| key.iter().enumerate().all(|(at, word)| self.0.get(place + at) == *word))
    }
}
