//! What a key is: the one place from which its flag, its help, its environment variable and its name in the file come.

/// Something that can be set.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its flag, without the two hyphens.
    pub flag: &'static str,
    /// Its flag of one letter.
    pub short: Option<char>,
    /// Another word for the flag.
    pub alias: Option<&'static str>,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// What it is, for the help.
    pub help: &'static str,
    /// The value where none is given.
    pub default: Option<&'static str>,
    /// For the help: what happens where no value is given and there is no default.
    pub otherwise: Option<&'static str>,
    /// The environment variable that the original generator reads for it.
    pub original_variable: Option<&'static str>,
    /// How many values it takes.
    pub shape: Shape,
    /// Where it stands in the file.
    pub place: Place,
}

/// How many values a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    One,
    /// Several: the flag several times, the variable with commas, in the file a list.
    Several,
    /// `true` or `false`; the flag alone means `true`.
    Switch,
}

/// Where a key stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the top, under the flag's name with underscores.
    Top,
    /// Elsewhere or under another name.
    Named(&'static str),
    /// Nowhere: it is for one command only.
    Nowhere,
}

impl Key {
    /// A key of one value that stands at the top of the file.
    pub const fn new(flag: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            flag,
            short: None,
            alias: None,
            value,
            help,
            default: None,
            otherwise: None,
            original_variable: None,
            shape: Shape::One,
            place: Place::Top,
        }
    }

    /// A key of the values `true` and `false`.
    pub const fn switch(flag: &'static str, help: &'static str) -> Self {
        Self { shape: Shape::Switch, default: Some("false"), ..Self::new(flag, "true|false", help) }
    }

    /// The same with another help.
    #[must_use]
    pub const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// The same with a value for where none is given.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The same with a word on what happens where no value is given.
    #[must_use]
    pub const fn otherwise(self, otherwise: &'static str) -> Self {
        Self { otherwise: Some(otherwise), ..self }
    }

    /// The same with another word for its flag.
    #[must_use]
    pub const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    /// The same with a flag of one letter.
    #[must_use]
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// The same, also read from this variable of the original generator.
    #[must_use]
    pub const fn original_variable(self, name: &'static str) -> Self {
        Self { original_variable: Some(name), ..self }
    }

    /// The same with several values.
    #[must_use]
    pub const fn several(self) -> Self {
        Self { shape: Shape::Several, ..self }
    }

    /// The same at another place of the file.
    #[must_use]
    pub const fn at(self, place: &'static str) -> Self {
        Self { place: Place::Named(place), ..self }
    }

    /// The same, but not in the file.
    #[must_use]
    pub const fn not_in_file(self) -> Self {
        Self { place: Place::Nowhere, ..self }
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("LOGINSCOPE_{}", self.flag.replace('-', "_").to_uppercase())
    }

    /// Its name in the file, sections with a dot.
    pub fn in_file(&self) -> Option<String> {
        match self.place {
            Place::Top => Some(self.flag.replace('-', "_")),
            Place::Named(name) => Some(name.to_owned()),
            Place::Nowhere => None,
        }
    }
}
