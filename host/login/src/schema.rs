//! Which fields the columns of a batch hold: the login's own table first, then whatever plugins read, set or keep
//! aggregates by. A field's place in the schema is its [`Slot`], the same in every batch.

/// The type of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// A JSON string.
    Text,
    /// A JSON number that is written as an integer and fits 64 bits, signed.
    Integer,
    /// Any JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON value other than `null`, as its text.
    Json,
}

/// The place of a field in a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

impl Slot {
    /// `user_id`.
    pub const USER_ID: Self = Self(0);
    /// `timestamp`, in epoch seconds.
    pub const TIMESTAMP: Self = Self(1);
    /// `ip`, as written.
    pub const IP: Self = Self(2);
    /// `device_type`.
    pub const DEVICE_TYPE: Self = Self(3);
    /// `device_id`.
    pub const DEVICE_ID: Self = Self(4);
    /// `locale`.
    pub const LOCALE: Self = Self(5);
    /// `app_version`.
    pub const APP_VERSION: Self = Self(6);
    /// `outcome`.
    pub const OUTCOME: Self = Self(7);
    /// How many fields the login's own table has: the slots below this are theirs.
    pub const CANONICAL: usize = 8;
}

/// A field of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; for a field of the input, it may be a dotted path.
    pub name: String,
    /// The type of its values.
    pub field_type: FieldType,
}

/// The fields of a batch. The first [`Slot::CANONICAL`] are the login's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    fields: Vec<Field>,
}

impl Default for Schema {
    fn default() -> Self {
        let text = |name: &str| Field { name: name.to_owned(), field_type: FieldType::Text };
        Self {
            fields: vec![
                text("user_id"),
                Field { name: "timestamp".to_owned(), field_type: FieldType::Integer },
                text("ip"),
                text("device_type"),
                text("device_id"),
                text("locale"),
                text("app_version"),
                text("outcome"),
            ],
        }
    }
}

impl Schema {
    /// All fields, by slot.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The further fields, those that are not in the login's own table. The first has slot [`Slot::CANONICAL`].
    pub fn further(&self) -> &[Field] {
        self.fields.get(Slot::CANONICAL..).unwrap_or_default()
    }

    /// The slot of the field with this name.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.fields.iter().position(|field| field.name == name).map(Slot)
    }

    /// The field at a slot.
    pub fn field(&self, slot: Slot) -> Option<&Field> {
        self.fields.get(slot.0)
    }

    /// The slot of the field with this name, which is added where it isn't there yet.
    ///
    /// # Errors
    /// The type the field already has, where that is another one.
    pub fn add(&mut self, name: &str, field_type: FieldType) -> Result<Slot, FieldType> {
        if let Some((slot, known)) = self.fields.iter().enumerate().find(|(_, known)| known.name == name) {
            return if known.field_type == field_type { Ok(Slot(slot)) } else { Err(known.field_type) };
        }
        self.fields.push(Field { name: name.to_owned(), field_type });
        Ok(Slot(self.fields.len() - 1))
    }
}
