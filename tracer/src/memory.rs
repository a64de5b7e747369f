//! What the allocator keeps, and what stays mapped.

use rustix::{
    mm::{Advice, madvise},
    param::page_size,
};

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

/// Lets go of the pages of a constant that is not needed for now; who reads it again gets them from the program's file.
pub(crate) fn unmap_pages(constant: &'static [u8]) {
    let range = constant.as_ptr_range();
    let begin = (range.start as usize).next_multiple_of(page_size());
    let end = range.end as usize / page_size() * page_size();
    if begin < end {
        // Where it is refused, they stay mapped.
        // SAFETY: whole pages of a constant without pointers: nothing ever wrote to them, so the file has the same.
        let _ = unsafe { madvise(begin as *mut _, end - begin, Advice::LinuxDontNeed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static CONSTANT: [u8; 1 << 16] = [7; 1 << 16];

    #[test]
    fn pages_that_were_let_go_read_the_same() {
        unmap_pages(&CONSTANT);
        assert!(CONSTANT.iter().all(|byte| *byte == 7));
        unmap_pages(&CONSTANT[..1]);
        unmap_pages(&[]);
    }
}
