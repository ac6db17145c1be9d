//! How settings pass from an outer block to an inner one.

/// Settings of one block: an unset field takes the enclosing block's value.
pub trait Inherit {
    /// Completes `self`, written in an inner block, from `outer`, which is already complete.
    fn inherit(&mut self, outer: &Self);
}

impl Inherit for () {
    fn inherit(&mut self, (): &Self) {}
}

/// Implements [`Inherit`] for a struct whose fields are all `Option`s that pass down when unset.
#[macro_export]
macro_rules! inherit {
    ($type:ty { $($field:ident),* $(,)? }) => {
        impl $crate::Inherit for $type {
            fn inherit(&mut self, outer: &Self) {
                $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )*
            }
        }
    };
}
