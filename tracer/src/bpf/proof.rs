//! The marks that programs leave when they run for the self-test's network namespace.

use aya::maps::{Array, Map, MapData, MapError};
use tracer_common::PROGRAMS;

/// The kernel's map of marks.
pub struct Proof(Array<MapData, u64>);

impl TryFrom<Map> for Proof {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        Array::try_from(map).map(Self)
    }
}

impl Proof {
    /// Wipes all marks.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clear(&mut self) -> Result<(), MapError> {
        (0..PROGRAMS.len()).try_for_each(|slot| self.0.set(slot as u32, 0, 0))
    }

    /// Whether the program of that name ran since the marks were wiped; false for one that has no slot.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ran(&self, program: &str) -> Result<bool, MapError> {
        match PROGRAMS.iter().position(|name| *name == program) {
            Some(slot) => self.0.get(&(slot as u32), 0).map(|mark| mark != 0),
            None => Ok(false),
        }
    }
}
