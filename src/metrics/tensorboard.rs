use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use super::history::{GroupStats, History};
use crate::Stats;

/// The fields of TensorBoard's `event.proto` and `summary.proto` that scalars need.
#[derive(Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = 1)]
    wall_time: f64,
    #[prost(int64, tag = 2)]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(prost::Oneof)]
enum What {
    #[prost(string, tag = 3)]
    FileVersion(String),
    #[prost(message, tag = 5)]
    Summary(Summary),
}

#[derive(Message)]
struct Summary {
    #[prost(message, repeated, tag = 1)]
    value: Vec<Scalar>,
}

#[derive(Message)]
struct Scalar {
    #[prost(string, tag = 1)]
    tag: String,
    #[prost(float, optional, tag = 2)]
    simple_value: Option<f32>,
}

/// Writes a history as a TensorBoard event file. TensorBoard loads files from its log directory whose names contain
/// `tfevents`, for example `events.out.tfevents.1`.
///
/// Tags are `optimizer/lr`, `optimizer/grad_norm` and so on for the numbers of [`Stats`], and `group/<name>/grad_norm`
/// and so on for those of [`GroupStats`], with the name `(none)` for the elements without a group. Missing values are
/// omitted. The step is the count of applied steps; the wall time of all events is the time of the call.
///
/// # Errors
/// I/O errors of the writer.
pub fn write_events(history: &History, writer: impl Write) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    write_events_at(now.as_secs_f64(), history, writer)
}

fn write_events_at(wall_time: f64, history: &History, mut writer: impl Write) -> io::Result<()> {
    let mut write = |step: u64, what: What| {
        let event = Event { wall_time, step: step as i64, what: Some(what) };
        writer.write_all(&record(&event.encode_to_vec()))
    };
    write(0, What::FileVersion("brain.Event:2".to_owned()))?;
    for stats in &history.steps {
        write(stats.step, summary("optimizer", &scalars(stats)))?;
    }
    for group in &history.groups {
        let name = group.group.as_deref().unwrap_or("(none)");
        write(group.step, summary(&format!("group/{name}"), &group_scalars(group)))?;
    }
    writer.flush()
}

/// A summary of the scalars that are present, with tags `of/name`.
fn summary(of: &str, scalars: &[(&str, Option<f32>)]) -> What {
    let known = scalars.iter().filter(|(_, value)| value.is_some());
    let value = known.map(|&(name, simple_value)| Scalar { tag: format!("{of}/{name}"), simple_value });
    What::Summary(Summary { value: value.collect() })
}

/// One record of a `TFRecord` file: length, checksum of the length, data, checksum of the data.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), data, &masked_crc(data)].concat()
}

/// The masked CRC-32C of `TFRecord` files.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    let crc = Crc::<u32>::new(&CRC_32_ISCSI).checksum(data);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn scalars(stats: &Stats) -> [(&'static str, Option<f32>); 12] {
    [
        ("lr", Some(stats.lr)),
        ("grad_norm", stats.grad_norm),
        ("clip_coef", Some(stats.clip_coef)),
        ("loss_scale", stats.loss_scale),
        ("skipped", Some(stats.skipped as f32)),
        ("consecutive_skipped", Some(stats.consecutive_skipped as f32)),
        ("param_norm", stats.param_norm),
        ("update_norm", stats.update_norm),
        ("update_ratio", stats.update_ratio),
        ("clipped_fraction", stats.clipped_fraction),
        ("rule_metric", stats.rule_metric),
        ("lost_updates", stats.lost_updates),
    ]
}

fn group_scalars(group: &GroupStats) -> [(&'static str, Option<f32>); 7] {
    [
        ("grad_norm", Some(group.grad_norm)),
        ("param_norm", Some(group.param_norm)),
        ("update_norm", Some(group.update_norm)),
        ("update_ratio", Some(group.update_ratio)),
        ("clipped_fraction", Some(group.clipped_fraction)),
        ("rule_metric", group.rule_metric),
        ("lost_updates", Some(group.lost_updates)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::HistoryOptions;
    use crate::{Layout, Lion, Optimizer};

    fn hex(digits: &[u8]) -> u8 {
        u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()
    }

    /// Expected bytes: written by `RecordWriter` of tensorboard 2.21 (Python) for three events at a wall time of 1.5
    /// seconds: the file version, `optimizer/lr` of 0.25 in step 7, `group/a/grad_norm` of NaN in step 300.
    #[test]
    fn records_are_those_of_tensorboard() {
        let expected = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c\
                        220000000000000078113dfd09000000000000f83f10072a150a130a0c6f7074696d697a65722f6c\
                        72150000803edae00a4d2800000000000000ff70164a09000000000000f83f10ac022a1a0a180a11\
                        67726f75702f612f677261645f6e6f726d150000c07f26232e1e";
        let events = [
            (0, What::FileVersion("brain.Event:2".to_owned())),
            (7, summary("optimizer", &[("grad_norm", None), ("lr", Some(0.25))])),
            (300, summary("group/a", &[("grad_norm", Some(f32::NAN))])),
        ];
        let encode = |(step, what)| record(&Event { wall_time: 1.5, step, what: Some(what) }.encode_to_vec());
        let expected: Vec<u8> = expected.as_bytes().chunks(2).map(hex).collect();
        assert_eq!(events.into_iter().flat_map(encode).collect::<Vec<_>>(), expected);
    }

    /// Tag, step and value of every scalar in a file.
    fn scalars_of(mut file: &[u8]) -> Vec<(String, i64, f32)> {
        let mut scalars = Vec::new();
        while let Some((length, rest)) = file.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*length) as usize;
            let event = Event::decode(&rest[4..4 + length]).unwrap();
            file = &rest[4 + length + 4..];
            if let Some(What::Summary(Summary { value })) = event.what {
                scalars.extend(value.into_iter().map(|scalar| (scalar.tag, event.step, scalar.simple_value.unwrap())));
            }
        }
        scalars
    }

    #[test]
    fn a_file_has_each_number_once() {
        let options = HistoryOptions::steps(9).with_norms_every(2).per_group();
        let layout = Layout::builder().tensor("a", &[2]).group("first").tensor("b", &[1]).build().unwrap();
        let mut optimizer = Optimizer::builder(Lion::default()).history(options).build_cpu(&layout).unwrap();
        let mut params = vec![1.0; layout.len()];
        for _ in 0..2 {
            optimizer.step(&mut params, &vec![0.5; layout.len()]).unwrap();
        }
        let history = optimizer.history().unwrap();
        let mut file = Vec::new();
        write_events(&history, &mut file).unwrap();
        let found = scalars_of(&file);
        // Eleven scalars of the sampled step; four of the second step: lr, clip_coef and both skip counts; seven of each
        // group.
        assert_eq!(found.len(), 11 + 4 + 14);
        let one = |tag: &str, step| found.iter().find(|scalar| scalar.0 == tag && scalar.1 == step).unwrap().2;
        assert_eq!(one("optimizer/lr", 2), history.steps[1].lr);
        assert_eq!(Some(one("optimizer/update_norm", 1)), history.steps[0].update_norm);
        assert_eq!(one("optimizer/rule_metric", 1), 1.0);
        assert_eq!(one("group/first/grad_norm", 1), 0.5f32.sqrt());
        assert_eq!(one("group/(none)/grad_norm", 1), 0.5);
    }
}
