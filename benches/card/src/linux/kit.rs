//! The folder that `cargo xtask card pack` made.

use std::fs;
use std::path::{Path, PathBuf};

use super::Result;
use super::vulkan::Machine;

#[derive(Debug, Clone)]
pub(crate) struct Kit {
    folder: PathBuf,
    /// Commit and versions, as packed.
    pub(crate) version: String,
}

impl Kit {
    /// # Errors
    /// A folder without a version.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        // Programs run in other folders.
        let folder = fs::canonicalize(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let path = folder.join("version");
        let version =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}; pack the kit again", path.display()))?;
        Ok(Self { folder, version: version.trim().to_owned() })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// The files of the repository that tests read.
    pub(crate) fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    pub(crate) fn compare(&self) -> PathBuf {
        self.folder.join("compare/compare.py")
    }
}

/// The parts of Vulkan that this machine lacks, as the end of a message.
pub(crate) fn missing_vulkan_parts() -> String {
    let machine = Machine::this();
    let found = machine.search();
    if found.complete() {
        return String::new();
    }
    let driver = "the driver of the card brings the manifest, in containers only with its graphics part \
                  (NVIDIA_DRIVER_CAPABILITIES=all)";
    let remedy = machine.distribution().remedy();
    format!("; missing: {}; {driver}; a software driver: {remedy}", found.missing())
}
