//! A guide's commands, by the heading under which they stand.

use std::{fs, path::Path};

/// The commands of one heading.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) heading: String,
    pub(crate) commands: String,
}

/// What a reader of a guide types, from top to bottom.
#[derive(Debug)]
pub(crate) struct Guide(Vec<Section>);

impl Guide {
    /// Reads a guide, its path being one of the repository.
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let mut sections: Vec<Section> = Vec::new();
        let mut typed = false;
        for line in text.lines() {
            match line {
                "```sh" => typed = true,
                "```" => typed = false,
                line if typed => {
                    let section = sections.last_mut().expect("commands stand below a heading");
                    section.commands.extend([line, "\n"]);
                }
                line => {
                    let heading = line.strip_prefix("## ").map(str::to_owned);
                    sections.extend(heading.map(|heading| Section { heading, commands: String::new() }));
                }
            }
        }
        sections.retain(|section| !section.commands.is_empty());
        assert!(!sections.is_empty(), "{path} has no commands");
        Self(sections)
    }

    /// The commands below one heading.
    pub(crate) fn section(&self, heading: &str) -> &Section {
        let headings: Vec<_> = self.0.iter().map(|section| &section.heading).collect();
        self.0.iter().find(|s| s.heading == heading).unwrap_or_else(|| panic!("{heading:?} is none of {headings:?}"))
    }

    /// The whole guide, with a test's own commands after those of a heading.
    pub(crate) fn with(mut self, after: &str, heading: &str, commands: impl Into<String>) -> Self {
        self.section(after);
        let at = self.0.iter().position(|section| section.heading == after).unwrap();
        self.0.insert(at + 1, Section { heading: heading.to_owned(), commands: commands.into() });
        self
    }

    /// All sections.
    pub(crate) fn sections(&self) -> &[Section] {
        &self.0
    }
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
