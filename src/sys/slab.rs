//! A fixed array on the heap whose elements the kernel is given pointers to.
//!
//! A `Vec` would do but for aliasing: every `&mut` to an element ends the life of raw
//! pointers made before. Here the raw pointer is the owner and references are made from
//! it for a moment, so the pointers inside message headers stay good.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// `length` elements, all zero at first.
pub(super) struct Slab<T: Zeroable> {
    base: NonNull<T>,
    length: usize,
    owns: PhantomData<T>,
}

/// Types for which zero bytes are a value, and which need no drop.
///
/// # Safety
///
/// All-zero bytes must be a valid value of the type.
pub(super) unsafe trait Zeroable: Copy {}

// SAFETY: an integer.
unsafe impl Zeroable for u8 {}
impl<T: Zeroable> Slab<T> {
    pub(super) fn new(length: usize) -> Self {
        assert!(length > 0, "a slab holds something");
        let layout = Layout::array::<T>(length).expect("slabs are small");
        // SAFETY: the layout is not empty: `length` is not 0 and no T here is.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(memory.cast::<T>()) else {
            handle_alloc_error(layout)
        };
        Self {
            base,
            length,
            owns: PhantomData,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// A pointer to element `index` that stays good as long as the slab lives.
    pub(super) fn ptr(&self, index: usize) -> *mut T {
        assert!(index < self.length);
        // SAFETY: within the allocation, by the line above.
        unsafe { self.base.as_ptr().add(index) }
    }

    pub(super) fn get(&self, index: usize) -> &T {
        // SAFETY: `ptr` is in bounds, initialised (zeroed at least), and `&self` keeps
        // anyone from writing through the slab while the reference lives.
        unsafe { &*self.ptr(index) }
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut T {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        unsafe { &mut *self.ptr(index) }
    }

    pub(super) fn slice(&self, start: usize, length: usize) -> &[T] {
        assert!(start <= self.length && length <= self.length - start);
        // SAFETY: in bounds by the line above; initialised and unwritten as in `get`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(start), length) }
    }
}

impl<T: Zeroable> Drop for Slab<T> {
    fn drop(&mut self) {
        let layout = Layout::array::<T>(self.length).expect("it was allocated so");
        // SAFETY: allocated in `new` with this layout, freed once; T needs no drop.
        unsafe { dealloc(self.base.as_ptr().cast(), layout) };
    }
}

// SAFETY: the slab owns its memory; the pointers inside its elements point to slabs of the
// same owner, which move to another thread together.
unsafe impl<T: Zeroable> Send for Slab<T> {}
