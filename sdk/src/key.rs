//! The typed keys that [`Declare`](crate::Declare) gives for what was declared.
//!
//! A key is a place in the plugin's own declaration. Keys are only made there, so a key always stands for something
//! declared, and its type parameter is the type that was declared.

use std::marker::PhantomData;

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<T: ?Sized> {
            index: usize,
            marker: PhantomData<fn() -> Box<T>>,
        }

        // Derived, these would ask for `T: Copy`.
        impl<T: ?Sized> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T: ?Sized> Copy for $name<T> {}

        impl<T: ?Sized> $name<T> {
            pub(crate) const fn new(index: usize) -> Self {
                Self { index, marker: PhantomData }
            }

            pub(crate) const fn index(self) -> usize {
                self.index
            }
        }
    };
}

key! {
    /// The key to a further field of the login, for [`Login::get`](crate::Login::get).
    Field
}
key! {
    /// The key to a field that an enricher sets, for [`Fields::set`](crate::Fields::set).
    OutputField
}
key! {
    /// The key to the answer to a look-up, for [`History::get`](crate::History::get).
    Past
}
key! {
    /// The key to an aggregate over all accepted logins since the beginning, for [`Totals`](crate::Totals).
    Total
}
key! {
    /// The key to an aggregate over the logins of a window, for [`Window`](crate::Window).
    Windowed
}
