//! The entries of an aggregate as values, to compare them with others.

use loginscope_login::Value;
use loginscope_state::{Entry, ListingShape, Period, Reader, Scalar, TakeEntries};

/// The entries that a reader gives.
pub(crate) fn listed(reader: &Reader<'_>, name: &str, period: Period) -> Result<Vec<Entry>, String> {
    let mut taken = Taken::default();
    reader.entries(name, period, &mut taken)?;
    let shape = taken.shape.unwrap();
    assert_eq!(taken.entries.len(), shape.rows, "{name}");
    for entry in &taken.entries {
        assert_eq!(entry.bucket.is_some(), shape.has_buckets, "{name}");
        assert_eq!((entry.key.len(), entry.values.len()), (shape.dimensions, shape.values), "{name}");
    }
    Ok(taken.entries)
}

#[derive(Default)]
struct Taken {
    shape: Option<ListingShape>,
    entries: Vec<Entry>,
}

impl TakeEntries for Taken {
    fn begin(&mut self, shape: ListingShape) {
        assert_eq!(self.shape.replace(shape), None);
    }

    fn entry(&mut self, bucket: Option<i64>) {
        self.entries.push(Entry { bucket, key: Vec::new(), values: Vec::new() });
    }

    fn key(&mut self, value: Value<'_>) {
        let entry = self.entries.last_mut().unwrap();
        assert!(entry.values.is_empty(), "the key comes first");
        entry.key.push(scalar(value));
    }

    fn value(&mut self, value: Value<'_>) {
        self.entries.last_mut().unwrap().values.push(scalar(value));
    }
}

fn scalar(value: Value<'_>) -> Scalar {
    match value {
        Value::Text(text) | Value::Json(text) => Scalar::Text(text.to_owned()),
        Value::Integer(integer) => Scalar::Integer(integer),
        Value::Number(number) => Scalar::Number(number),
        Value::Boolean(boolean) => Scalar::Boolean(boolean),
        Value::Missing => unreachable!("an entry has all its values"),
    }
}
