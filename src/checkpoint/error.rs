use std::io;
use std::path::PathBuf;

use super::difference::Difference;
use crate::Error;

/// The errors of saving and loading checkpoints and parameters. After an error of loading, nothing has changed, except
/// after [`CheckpointError::Device`] and [`CheckpointError::ChangedWhileRead`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused to read or write.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// The action: `reading`, `writing`, ….
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A stream given by the caller refused to read or write.
    #[error("the stream failed: {0}")]
    Stream(#[from] io::Error),
    /// The file is no safetensors file.
    #[error("not a safetensors file: {problem}")]
    NotSafetensors {
        /// The first thing that does not fit.
        problem: String,
    },
    /// The file is not one that this crate wrote.
    #[error("not a checkpoint of wgpu-optim: {problem}")]
    NotACheckpoint {
        /// The first thing that does not fit.
        problem: String,
    },
    /// A later version of the crate wrote the file.
    #[error("the checkpoint has format {format}; this version of wgpu-optim reads up to {newest}: update it")]
    NewerFormat {
        /// Format of the file.
        format: u64,
        /// The newest format that this version reads.
        newest: u32,
    },
    /// The file is shorter or longer than its header says.
    #[error("the file has {actual} bytes; its header says {expected}: it was cut off, or something was appended")]
    Length {
        /// Bytes according to the header.
        expected: u64,
        /// Bytes of the file.
        actual: u64,
    },
    /// A part of the file has another checksum than when it was written.
    #[error("the checkpoint is damaged: {part} has another checksum than when it was written; use an older file")]
    Damaged {
        /// `header`, or the name of a tensor in the file.
        part: String,
    },
    /// The file changed between the check of its checksums and its use, or could not be read again. The program now holds
    /// parts of it.
    #[error(
        "the file changed while it was read, or could not be read to its end; the program holds parts of it: load a file again"
    )]
    ChangedWhileRead,
    /// The checkpoint is of an optimizer that this one cannot continue.
    #[error("the checkpoint has {what} {file}; the program has {program}: {remedy}")]
    Mismatch {
        /// `rule`, ….
        what: &'static str,
        /// Value of the file.
        file: String,
        /// Value of the program.
        program: String,
        /// Advice.
        remedy: &'static str,
    },
    /// Tensors of the program are missing in the file, or the file has others.
    #[error(
        "the file lacks {}, and has beside the program's tensors: {}; {remedy}",
        few(.missing),
        few(.unknown)
    )]
    Tensors {
        /// Tensors of the program that the file lacks, as the file would name them.
        missing: Vec<String>,
        /// Tensors of the file that the program lacks.
        unknown: Vec<String>,
        /// Advice.
        remedy: &'static str,
    },
    /// A tensor has another shape in the file.
    #[error("the tensor {tensor:?} has the shape {file:?} in the file, and {program:?} in the program")]
    Shape {
        /// Name in the file.
        tensor: String,
        /// Shape in the file.
        file: Vec<usize>,
        /// Shape in the program.
        program: Vec<usize>,
    },
    /// A tensor has another format in the file.
    #[error("the tensor {tensor:?} is {file} in the file, and {program} in the program; convert it")]
    Dtype {
        /// Name in the file.
        tensor: String,
        /// Format in the file.
        file: String,
        /// Format in the program.
        program: String,
    },
    /// Parameters were asked for, and the file has none.
    #[error("the checkpoint holds no parameters; save it with parameters, or load them from where they are")]
    NoParams,
    /// A new name was given for a tensor that the program does not have.
    #[error("`with_renamed` names the tensor {tensor:?}, which the program's layout does not have")]
    UnknownTensor {
        /// The name.
        tensor: String,
    },
    /// No safetensors file holds a tensor of that name.
    #[error("the name {tensor:?} is reserved in safetensors files; give the tensor another one")]
    ReservedName {
        /// The name.
        tensor: String,
    },
    /// Settings differ, and [`LoadOptions::exact`](super::LoadOptions::exact) refuses that.
    #[error("the checkpoint has other settings than the program: {}", few(.0))]
    Settings(Vec<Difference>),
    /// The file was written with a rule that is not built in.
    #[error("the checkpoint's rule {rule:?} is not built in: start the optimizer with `Optimizer::builder(your_rule)`")]
    CustomRule {
        /// The rule's name.
        rule: String,
    },
    /// The device's memory could not be read or written: it is lost, or out of memory.
    #[error("the device failed: {0}; free memory, or build the optimizer on a new device and load the last checkpoint")]
    Device(String),
    /// An error of the optimizer about buffers or settings.
    #[error(transparent)]
    Optimizer(#[from] Error),
}

/// Names of a list that are printed.
const PRINTED: usize = 8;

fn few(names: &[impl std::fmt::Display]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let list = names.iter().take(PRINTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > PRINTED { format!("{list} and {} more", names.len() - PRINTED) } else { list }
}
