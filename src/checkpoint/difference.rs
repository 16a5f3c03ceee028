use std::fmt;

/// A setting that differs between a checkpoint and the program that loads it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// Path of the setting: `rule.eps`, `groups.no_decay.weight_decay`, ….
    pub setting: String,
    /// Value in the file, as JSON; `none` if the file lacks it.
    pub file: String,
    /// Value in the program, likewise.
    pub program: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} in the file, {} in the program", self.setting, self.file, self.program)
    }
}
