//! Is there a Vulkan driver on this machine, and what would bring one?
//!
//! Two things are needed: the loader (`libvulkan.so.1`), and at least one manifest (`*.json`) of a driver, in the
//! places where the loader looks:
//! <https://github.com/KhronosGroup/Vulkan-Loader/blob/main/docs/LoaderDriverInterface.md>.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the search reads of a machine; tests put a folder of their own in the place of `/`.
pub(crate) struct Machine {
    root: PathBuf,
    env: HashMap<String, String>,
    /// What `ldconfig -p` prints; empty where there is none (musl).
    linker_cache: String,
}

/// What a search found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) loader: bool,
    pub(crate) manifests: Vec<PathBuf>,
    /// The environment variable that replaced the usual search, if one did.
    pub(crate) variable: Option<&'static str>,
}

impl Found {
    pub(crate) fn complete(&self) -> bool {
        self.loader && !self.manifests.is_empty()
    }

    /// What is missing, in words.
    pub(crate) fn missing(&self) -> String {
        let manifest = match self.variable {
            Some(name) => format!("a driver manifest at the paths in {name}"),
            None => "a Vulkan driver (an ICD manifest)".to_string(),
        };
        match (self.loader, self.manifests.is_empty()) {
            (true, true) => manifest,
            (false, true) => format!("the Vulkan loader (libvulkan.so.1) and {manifest}"),
            (false, false) => "the Vulkan loader (libvulkan.so.1)".to_string(),
            (true, false) => "nothing".to_string(),
        }
    }
}

impl Machine {
    /// The machine this program runs on.
    pub(crate) fn this() -> Self {
        let ldconfig = ["ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"];
        let linker_cache = ldconfig
            .iter()
            .filter_map(|program| Command::new(program).arg("-p").output().ok())
            .find(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        Self { root: PathBuf::from("/"), env: std::env::vars().collect(), linker_cache }
    }

    pub(crate) fn search(&self) -> Found {
        let (variable, manifests) = self.manifests();
        Found { loader: self.has_loader(), manifests, variable }
    }

    fn manifests(&self) -> (Option<&'static str>, Vec<PathBuf>) {
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            if let Some(paths) = self.variable(variable) {
                return (Some(variable), split(paths).flat_map(|path| manifests_at(&self.path(path))).collect());
            }
        }
        let added = self.variable("VK_ADD_DRIVER_FILES").into_iter().flat_map(split).map(|path| self.path(path));
        let usual = self.search_folders().into_iter().map(|folder| folder.join("vulkan/icd.d"));
        (None, added.chain(usual).flat_map(|path| manifests_at(&path)).collect())
    }

    fn search_folders(&self) -> Vec<PathBuf> {
        let home = self.variable("HOME");
        let in_home = |variable, fallback| {
            let path = self.variable(variable).map(str::to_string);
            path.or_else(|| home.map(|home| format!("{home}/{fallback}")))
        };
        let or = |variable, fallback| self.variable(variable).unwrap_or(fallback).to_string();
        let mut lists = vec![or("XDG_CONFIG_DIRS", "/etc/xdg"), "/usr/local/etc:/etc".to_string()];
        lists.push(or("XDG_DATA_DIRS", "/usr/local/share:/usr/share"));
        lists.extend(in_home("XDG_CONFIG_HOME", ".config"));
        lists.extend(in_home("XDG_DATA_HOME", ".local/share"));
        lists.iter().flat_map(|list| split(list)).map(|path| self.path(path)).collect()
    }

    fn has_loader(&self) -> bool {
        const LOADER: &str = "libvulkan.so.1";
        if self.linker_cache.lines().any(|line| line.trim_start().starts_with(LOADER)) {
            return true;
        }
        let usual = ["/usr/local/lib", "/usr/lib", "/lib", "/usr/lib64", "/lib64"].map(|folder| self.path(folder));
        // Debian and Alpine keep libraries per architecture, one level deeper (/usr/lib/x86_64-linux-gnu).
        let deeper = usual.iter().flat_map(|folder| entries(folder)).filter(|path| path.is_dir());
        let asked = self.variable("LD_LIBRARY_PATH").into_iter().flat_map(split).map(|path| self.path(path));
        asked.chain(usual.iter().cloned()).chain(deeper).any(|folder| folder.join(LOADER).exists())
    }

    pub(crate) fn distribution(&self) -> Distribution {
        ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| fs::read_to_string(self.path(path)).ok())
            .map_or(Distribution::Other, |release| Distribution::from_os_release(&release))
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(':').filter(|path| !path.is_empty())
}

/// A manifest, or all manifests in a folder: the loader's variables accept both.
fn manifests_at(path: &Path) -> Vec<PathBuf> {
    let found = if path.is_dir() { entries(path) } else { vec![path.to_path_buf()] };
    found.into_iter().filter(|path| path.is_file() && path.extension().is_some_and(|it| it == "json")).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Families of Linux that name their packages alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    Debian,
    Fedora,
    Arch,
    Alpine,
    Suse,
    Other,
}

impl Distribution {
    /// `ID` first, then the `ID_LIKE` of derivatives, nearest relative first.
    fn from_os_release(release: &str) -> Self {
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches(['"', '\'']).to_ascii_lowercase()
        };
        let names = format!("{} {}", field("ID"), field("ID_LIKE"));
        let family = names.split_whitespace().find_map(|name| match name {
            "debian" | "ubuntu" => Some(Self::Debian),
            "fedora" | "rhel" | "centos" => Some(Self::Fedora),
            "arch" | "archlinux" => Some(Self::Arch),
            "alpine" => Some(Self::Alpine),
            "suse" | "opensuse" => Some(Self::Suse),
            _ => None,
        });
        family.unwrap_or(Self::Other)
    }

    /// What a person types to get a software Vulkan driver and the loader.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Debian => "apt-get install mesa-vulkan-drivers libvulkan1",
            Self::Fedora => "dnf install mesa-vulkan-drivers vulkan-loader",
            Self::Arch => "pacman -S vulkan-swrast vulkan-icd-loader",
            Self::Alpine => "apk add mesa-vulkan-swrast vulkan-loader",
            Self::Suse => "zypper install libvulkan_lvp libvulkan1",
            Self::Other => "the Vulkan loader and Mesa's lavapipe, or the driver of your GPU, by your package manager",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files in a folder that goes away with it.
    struct Fake(Machine);

    impl Fake {
        fn new(name: &str, files: &[&str]) -> Self {
            let root = std::env::temp_dir().join(format!("xtask-vulkan-{}-{name}", std::process::id()));
            for file in files {
                let path = root.join(file.trim_start_matches('/'));
                fs::create_dir_all(path.parent().expect("files lie in folders"))
                    .expect("a writable folder for temporary files");
                fs::write(path, "{}").expect("a writable folder for temporary files");
            }
            Self(Machine { root, env: HashMap::new(), linker_cache: String::new() })
        }

        fn with(mut self, variable: &str, value: &str) -> Self {
            self.0.env.insert(variable.into(), value.into());
            self
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0.root).ok();
        }
    }

    const LOADER: &str = "/usr/lib/x86_64-linux-gnu/libvulkan.so.1";
    const MANIFEST: &str = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";

    #[test]
    fn an_empty_machine_lacks_both() {
        let found = Fake::new("empty", &[]).0.search();
        assert_eq!(found, Found::default());
        assert!(!found.complete());
        assert_eq!(found.missing(), "the Vulkan loader (libvulkan.so.1) and a Vulkan driver (an ICD manifest)");
    }

    #[test]
    fn loader_and_manifest_together_are_complete_and_neither_alone_is() {
        assert!(Fake::new("both", &[LOADER, MANIFEST]).0.search().complete());
        assert!(!Fake::new("loader", &[LOADER]).0.search().complete());
        assert!(!Fake::new("manifest", &[MANIFEST]).0.search().complete());
    }

    #[test]
    fn the_loader_is_found_by_the_linker_cache() {
        let mut fake = Fake::new("cache", &[MANIFEST]);
        fake.0.linker_cache = "2 libs\n\tlibvulkan.so.1 (libc6,x86-64) => /opt/libvulkan.so.1\n".into();
        assert!(fake.0.search().complete());
        fake.0.linker_cache = "1 libs\n\tlibvulkan_lvp.so (libc6,x86-64) => /opt/libvulkan_lvp.so\n".into();
        assert!(!fake.0.search().complete());
    }

    #[test]
    fn manifests_are_found_in_every_usual_folder() {
        for (variable, value, manifest) in [
            ("HOME", "/home/me", "/etc/vulkan/icd.d/a.json"),
            ("HOME", "/home/me", "/usr/local/share/vulkan/icd.d/a.json"),
            ("HOME", "/home/me", "/home/me/.local/share/vulkan/icd.d/a.json"),
            ("HOME", "/home/me", "/home/me/.config/vulkan/icd.d/a.json"),
            ("XDG_DATA_HOME", "/data", "/data/vulkan/icd.d/a.json"),
            ("XDG_DATA_DIRS", "/x:/run/driver/share", "/run/driver/share/vulkan/icd.d/a.json"),
            ("XDG_CONFIG_DIRS", "/conf", "/conf/vulkan/icd.d/a.json"),
            ("VK_ADD_DRIVER_FILES", "/opt/a.json", "/opt/a.json"),
        ] {
            let fake = Fake::new("folders", &[manifest]).with(variable, value);
            assert_eq!(fake.0.search().manifests, [fake.0.path(manifest)], "{manifest}");
        }
        let other_files = Fake::new("other", &["/etc/vulkan/icd.d/README"]);
        assert_eq!(other_files.0.search().manifests, Vec::<PathBuf>::new());
    }

    #[test]
    fn a_variable_replaces_the_usual_folders() {
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            let wrong = Fake::new("wrong", &[LOADER, MANIFEST]).with(variable, "/opt/gone.json");
            let found = wrong.0.search();
            assert!(!found.complete());
            assert!(found.missing().contains(variable), "{}", found.missing());
            let right = Fake::new("right", &[LOADER, "/opt/a.json"]).with(variable, "/opt/gone.json:/opt/a.json");
            assert!(right.0.search().complete());
            let folder = Fake::new("folder", &[LOADER, "/opt/a.json"]).with(variable, "/opt");
            assert!(folder.0.search().complete());
        }
    }

    #[test]
    fn distributions_are_told_by_id_and_by_their_relatives() {
        for (release, family) in [
            ("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n", Distribution::Debian),
            ("ID=ubuntu\nID_LIKE=debian\n", Distribution::Debian),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Distribution::Debian),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Distribution::Fedora),
            ("ID=manjaro\nID_LIKE=arch\n", Distribution::Arch),
            ("ID=alpine\nVERSION_ID=3.20\n", Distribution::Alpine),
            ("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n", Distribution::Suse),
            ("ID=nixos\n", Distribution::Other),
            ("", Distribution::Other),
        ] {
            assert_eq!(Distribution::from_os_release(release), family, "{release}");
        }
    }
}
