//! What a part has found out, on the terminal and in its file.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use xtask::bench::{Options, Part};

/// What a part has found out.
pub(crate) struct Findings {
    /// Its headline.
    pub(crate) title: &'static str,
    /// What the figures are.
    pub(crate) figures: String,
    /// Tables, each with what it is about, or nothing where that is plain.
    pub(crate) tables: Vec<(String, String)>,
    /// How it was measured: the items of a list.
    pub(crate) notes: Vec<String>,
}

impl Findings {
    /// Prints the tables, and writes all of it to the part's file, if there is one.
    pub(crate) fn publish(&self, part: Part, options: &Options, machine: &[String]) -> Result<()> {
        println!("\n{}", self.tables());
        let Some(file) = options.output(part) else { return Ok(()) };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let document = self.document(&options.words(&[part]).join(" "), machine);
        std::fs::write(&file, document).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("written to {}", file.display());
        Ok(())
    }

    fn tables(&self) -> String {
        let shown = |(about, table): &(String, String)| match about.as_str() {
            "" => table.clone(),
            about => format!("{about}\n\n{table}"),
        };
        self.tables.iter().map(shown).collect::<Vec<_>>().join("\n")
    }

    fn document(&self, command: &str, machine: &[String]) -> String {
        let list = |items: &[String]| {
            items.iter().fold(String::new(), |mut list, item| {
                let _ = writeln!(list, "- {item}");
                list
            })
        };
        format!(
            "# {}\n\nWritten by `cargo xtask bench {command}`. {}\n\n{}\n{}\n## Machine\n\n{}",
            self.title,
            self.figures,
            self.tables(),
            list(&self.notes),
            list(machine)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_what_was_asked_for_found_out_and_on_which_machine() {
        let findings = Findings {
            title: "Title",
            figures: "Medians.".to_owned(),
            tables: vec![(String::new(), "| 1 |\n".to_owned()), ("More:".to_owned(), "| 2 |\n".to_owned())],
            notes: vec!["how".to_owned()],
        };
        let document = findings.document("latency --rate 1", &["2 cores".to_owned()]);
        let expected = "# Title\n\nWritten by `cargo xtask bench latency --rate 1`. Medians.\n\n| 1 |\n\nMore:\n\n| 2 |\n\n\
                        - how\n\n## Machine\n\n- 2 cores\n";
        assert_eq!(document, expected);
    }
}
