//! Vulkan's validation layers beside the tests. Any message fails the run, and so does a layer that was not loaded.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use crate::debian;

/// The first message of a layer in each instance.
const LOADED: &str = "UNASSIGNED-khronos-validation-createinstance-status-message";
/// The last line, written by this program.
const END: &str = "xtask: the tests have ended";

/// Messages of the layer while a command runs.
pub(crate) struct Watch {
    pipe: PathBuf,
    /// Kept open for writing: the reader ends at [`END`], whatever processes come and go.
    writer: File,
    reader: JoinHandle<Vec<String>>,
}

impl Watch {
    /// Makes a command load the layer and write its messages into a pipe. A file would be cut by every new instance.
    pub(crate) fn begin(command: &mut Command) -> Result<Self, String> {
        load(command)?;
        Self::record(command)
    }

    fn record(command: &mut Command) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("xtask-validation-{}", std::process::id()));
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(failed)?;
        let pipe = folder.join("messages");
        let made =
            Command::new("mkfifo").arg(&pipe).status().map_err(|error| format!("cannot start mkfifo: {error}"))?;
        if !made.success() {
            return Err(format!("mkfifo {}: {made}", pipe.display()));
        }
        let settings = format!(
            "khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG\n\
             khronos_validation.report_flags = error,warn,perf,info\n\
             khronos_validation.log_filename = {}\n",
            pipe.display()
        );
        fs::write(folder.join("vk_layer_settings.txt"), settings).map_err(failed)?;
        command.env("VK_LAYER_SETTINGS_PATH", &folder);
        // Open for both: neither side waits for the other.
        let writer = OpenOptions::new().read(true).write(true).open(&pipe).map_err(failed)?;
        let lines = BufReader::new(writer.try_clone().map_err(failed)?).split(b'\n');
        let reader = std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok).map(|line| String::from_utf8_lossy(&line).into_owned());
            lines.take_while(|line| !line.ends_with(END)).collect()
        });
        Ok(Self { pipe, writer, reader })
    }

    /// The number of instances that the layer watched.
    ///
    /// # Errors
    /// Its messages; none at all from a layer that was not loaded.
    pub(crate) fn end(mut self) -> Result<usize, String> {
        writeln!(self.writer, "\n{END}").map_err(|error| format!("{}: {error}", self.pipe.display()))?;
        let lines = self.reader.join().map_err(|_| "the reader of the layer's messages panicked")?;
        if let Some(folder) = self.pipe.parent() {
            fs::remove_dir_all(folder).ok();
        }
        judged(&lines)
    }
}

/// Names the layer's manifest and library: Debian's, unless the environment names others.
fn load(command: &mut Command) -> Result<(), String> {
    if std::env::var_os("VK_LAYER_PATH").is_none() {
        let package = debian::unpacked("vulkan-validationlayers").map_err(|reason| {
            format!(
                "{reason}. Where Debian's packages are not to be had, install Vulkan's validation layers and name the \
                 folder of their manifest: VK_LAYER_PATH=/usr/share/vulkan/explicit_layer.d"
            )
        })?;
        let manifest = debian::find(&package, "VkLayer_khronos_validation.json")?;
        let library = debian::find(&package, "libVkLayer_khronos_validation.so")?;
        command.env("VK_LAYER_PATH", manifest.parent().unwrap_or(&manifest));
        let known = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let folders = library.parent().map(PathBuf::from).into_iter().chain(std::env::split_paths(&known));
        let folders = std::env::join_paths(folders).map_err(|error| error.to_string())?;
        command.env("LD_LIBRARY_PATH", folders);
    }
    command.env("WGPU_VALIDATION", "1");
    if std::env::var_os("WGPU_DEBUG").is_none() {
        // Names of sources in SPIR-V: layers before 1.3.240 do not know WGSL ("Invalid source language operand: 10").
        command.env("WGPU_DEBUG", "0");
    }
    Ok(())
}

/// The number of instances, or the messages in words. The layer's notes (INFO) about itself are none.
fn judged(lines: &[String]) -> Result<usize, String> {
    let loaded = lines.iter().filter(|line| line.starts_with(LOADED)).count();
    if loaded == 0 {
        return Err("Vulkan's validation layer was not loaded: it reported no instance".to_owned());
    }
    let mut kinds = Vec::<(&str, usize)>::new();
    let is_fault = |line: &&String| ["(ERROR / ", "(WARN / ", "(PERF / "].iter().any(|kind| line.contains(kind));
    for line in lines.iter().filter(is_fault) {
        // Handles differ, messages do not.
        let message = line.rsplit_once(" | ").map_or(&**line, |(_, message)| message);
        match kinds.iter_mut().find(|known| known.0 == message) {
            Some(known) => known.1 += 1,
            None => kinds.push((message, 1)),
        }
    }
    if kinds.is_empty() {
        return Ok(loaded);
    }
    let listed: Vec<_> = kinds.iter().map(|(message, times)| format!("{times} times: {message}")).collect();
    Err(format!("Vulkan's validation layer reported faults:\n{}", listed.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: [&str; 4] = [
        "UNASSIGNED-khronos-validation-createinstance-status-message(INFO / SPEC): msgNum: -671457468 - Validation \
         Information: [ … ] Object 0: handle = 0x7f, type = VK_OBJECT_TYPE_INSTANCE; | MessageID = 0xd7fa5f44 | Khronos \
         Validation Layer Active:",
        "    Current Disables: None.",
        "UNASSIGNED-cache-file-error(INFO / SPEC): msgNum: -256165483 - Validation Information: [ … ] Object 0: | \
         MessageID = 0xf0bb3995 | Cannot open shader validation cache",
        "        [0] 0x7f, type: 3, name: NULL",
    ];
    const FAULT: &str = "VUID-vkCmdDispatch-groupCountX-00386(ERROR / SPEC): msgNum: 7060244 - Validation Error: [ … ] \
                         Object 0: handle = 0x7f; | MessageID = 0x6bbb14 | groupCountX is too large";

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_layer_that_is_not_there_does_not_pass() {
        assert!(judged(&lines(&NOTES[1..])).is_err_and(|error| error.contains("not loaded")));
    }

    #[test]
    fn notes_pass_and_faults_are_counted() {
        assert_eq!(judged(&lines(&[NOTES, NOTES].concat())), Ok(2));
        let error = judged(&lines(&[&NOTES[..], &[FAULT, FAULT]].concat())).expect_err("two faults");
        assert!(error.ends_with("faults:\n2 times: groupCountX is too large"), "{error}");
        for kind in ["WARN", "PERF"] {
            assert!(judged(&lines(&[NOTES[0], &FAULT.replace("ERROR", kind)])).is_err());
        }
    }

    /// Processes write one after the other, and each opens the pipe anew.
    #[test]
    #[cfg(target_os = "linux")]
    fn messages_of_every_process_arrive() {
        let mut command = Command::new("sh");
        let messages =
            format!("printf '%s\\n' '{}' > $(sed -n 's/.*log_filename = //p' $VK_LAYER_SETTINGS_PATH/*.txt)", NOTES[0]);
        command.args(["-c", &format!("{messages}; {messages}")]);
        let watch = Watch::record(&mut command).expect("a pipe");
        assert!(command.status().expect("a shell").success());
        assert_eq!(watch.end(), Ok(2));
    }
}
