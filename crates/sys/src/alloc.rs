//! The allocator of the program: mimalloc, by its plain functions.
//!
//! The crate `mimalloc` asks for an alignment with every block, which takes three times as many instructions and sends
//! most sizes through the slow path. Every block of mimalloc is aligned to a word anyway.
//!
//! A program with this module gets no memory in huge pages, of which a small server touches a corner each: the two that
//! hold the allocator's own tables would be most of what an idle server has. Children inherit that.
use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use std::alloc::{GlobalAlloc, Layout};

/// To be made the `#[global_allocator]`.
pub struct Allocator;

/// What every block is aligned to.
const WORD: usize = 8;

/// The allocator asks for huge pages with its first block, which the standard library needs before `main`.
#[used]
// SAFETY: the section holds pointers to functions of this type; the function needs nothing that is set up later.
#[unsafe(link_section = ".init_array")]
static BEFORE_THE_FIRST_BLOCK: extern "C" fn() = avoid_huge_pages;

extern "C" fn avoid_huge_pages() {
    let unused: libc::c_ulong = 0;
    // Where it is forbidden the server is merely larger.
    // SAFETY: this request takes numbers alone and changes nothing but a flag of the process.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1 as libc::c_ulong, unused, unused, unused) };
}

// SAFETY: the functions do what the trait asks for: blocks of at least that size with the alignment asked for, null
// without memory; blocks of both kinds may be freed and resized by either.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size may be asked for.
        let block = unsafe {
            if layout.align() <= WORD {
                mi_malloc(layout.size())
            } else {
                mi_malloc_aligned(layout.size(), layout.align())
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe {
            if layout.align() <= WORD {
                mi_zalloc(layout.size())
            } else {
                mi_zalloc_aligned(layout.size(), layout.align())
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: a block of this allocator.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: a block of this allocator.
        let block = unsafe {
            if layout.align() <= WORD {
                mi_realloc(block.cast(), size)
            } else {
                mi_realloc_aligned(block.cast(), size, layout.align())
            }
        };
        block.cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_off_before_anything_runs() {
        let unused: libc::c_ulong = 0;
        // SAFETY: this request takes numbers alone.
        let off = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, unused, unused, unused, unused) };
        assert_eq!(off, 1);
    }

    #[test]
    fn blocks_are_aligned_and_keep_their_bytes() {
        for align in [1, 8, 16, 64, 4096] {
            for size in [1, 8, 24, 100, 1024, 100_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: blocks of this size are written within it, resized and freed once.
                unsafe {
                    let block = Allocator.alloc(layout);
                    assert_eq!(block.addr() % align, 0);
                    block.write(7);
                    let block = Allocator.realloc(block, layout, size * 2);
                    assert_eq!((block.addr() % align, block.read()), (0, 7));
                    Allocator.dealloc(block, Layout::from_size_align(size * 2, align).unwrap());
                    let block = Allocator.alloc_zeroed(layout);
                    assert_eq!((block.addr() % align, block.add(size - 1).read()), (0, 0));
                    Allocator.dealloc(block, layout);
                }
            }
        }
    }
}
