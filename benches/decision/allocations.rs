//! An allocator that counts what each thread asks of it.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
};

#[cfg(feature = "mimalloc")]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(not(feature = "mimalloc"))]
static HEAP: std::alloc::System = std::alloc::System;

std::thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

pub struct Counted;

/// Allocations and reallocations of the calling thread so far.
pub fn of_this_thread() -> u64 {
    COUNT.get()
}

fn count() {
    // A thread that is ending has no count any more, and nobody asks for it.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { HEAP.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { HEAP.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { HEAP.realloc(old, layout, bytes) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { HEAP.dealloc(old, layout) }
    }
}
