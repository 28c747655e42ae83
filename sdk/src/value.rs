//! The types that a field can have, as type parameters of its key: `str`, `i64`, `f64`, `bool` and [`Json`].

use crate::columns::Columns;
use crate::contract::FieldType;
use crate::written::Written;

/// The type of a field that holds any JSON value, read as its text.
#[derive(Clone, Copy, Debug)]
pub enum Json {}

/// A type that a field can have. Not to be implemented by plugins.
pub trait FieldValue: sealed::Sealed {
    /// A value of one login.
    type Value<'a>: Copy;

    /// The type in the plugin contract.
    #[doc(hidden)]
    const TYPE: FieldType;

    /// The row's value in a column that came from the host, where the column has this type.
    #[doc(hidden)]
    fn get(columns: &Columns, column: usize, row: usize) -> Option<Self::Value<'_>>;

    /// The row's value in a column in the making.
    #[doc(hidden)]
    fn written(column: &Written, row: usize) -> Option<Self::Value<'_>>;

    /// Gives the row, the last one of the column or a later one, this value. The rows between are missing.
    #[doc(hidden)]
    fn put(column: &mut Written, row: usize, value: Self::Value<'_>);
}

/// A type of field that is set by value; JSON is set with [`Fields::set_json`](crate::Fields::set_json).
pub trait Settable: FieldValue {}
impl Settable for str {}
impl Settable for i64 {}
impl Settable for f64 {}
impl Settable for bool {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for str {}
    impl Sealed for i64 {}
    impl Sealed for f64 {}
    impl Sealed for bool {}
    impl Sealed for super::Json {}
}

macro_rules! field_value {
    ($type:ty, $value:ty, $case:ident, $read:ident, $put:expr) => {
        impl FieldValue for $type {
            type Value<'a> = $value;
            const TYPE: FieldType = FieldType::$case;

            #[inline(always)]
            fn get(columns: &Columns, column: usize, row: usize) -> Option<Self::Value<'_>> {
                columns.$read(column, row)
            }

            fn written(column: &Written, row: usize) -> Option<Self::Value<'_>> {
                column.$read(row)
            }

            #[inline(always)]
            fn put(column: &mut Written, row: usize, value: Self::Value<'_>) {
                let put: fn(&mut Written, usize, Self::Value<'_>) = $put;
                put(column, row, value);
            }
        }
    };
}

field_value!(str, &'a str, Text, text, Written::put_text);
field_value!(i64, i64, Integer, integer, Written::put_integer);
field_value!(f64, f64, Number, number, |column, row, value| {
    // JSON has no infinity and no NaN: a field that can't be written isn't set.
    if value.is_finite() { column.put_number(row, value) } else { column.end_at(row) }
});
field_value!(bool, bool, Boolean, boolean, Written::put_boolean);
field_value!(Json, &'a str, Json, json, Written::put_json);
