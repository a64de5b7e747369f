//! What the allocator keeps.

/// Has all threads share one pool: they allocate little, and each would keep memory of its own. To be called before there are
/// any.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a setting of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is of no use any more back to the system; the allocator would keep it for what may come.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: of memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}
