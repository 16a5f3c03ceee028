/// Writes the rows of a [`History`](super::History) (its steps or its groups) as CSV: a header line with the field
/// names, then one line per row. Missing values are empty fields, non-finite numbers `inf`, `-inf` and `nan`. Without rows,
/// writes nothing.
///
/// # Errors
/// I/O errors of the writer.
pub fn write_csv(rows: &[impl serde::Serialize], writer: impl std::io::Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(writer);
    for row in rows {
        csv.serialize(row).map_err(std::io::Error::other)?;
    }
    csv.flush()
}

/// Writes the rows of a [`History`](super::History) (its steps or its groups) as JSON objects, one per line. Missing values
/// are `null`, non-finite numbers the strings `"inf"`, `"-inf"` and `"nan"`.
///
/// # Errors
/// I/O errors of the writer.
pub fn write_json_lines(rows: &[impl serde::Serialize], mut writer: impl std::io::Write) -> std::io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut writer, row)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()
}
