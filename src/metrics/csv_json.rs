/// Writes the rows of a [`History`](super::History) (its steps or its groups) as CSV, one line each below the names of the
/// fields. Missing values are empty fields; without rows nothing is written.
///
/// # Errors
/// Those of the writer.
pub fn write_csv(rows: &[impl serde::Serialize], writer: impl std::io::Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(writer);
    for row in rows {
        csv.serialize(row).map_err(std::io::Error::other)?;
    }
    csv.flush()
}

/// Writes the rows of a [`History`](super::History) (its steps or its groups) as JSON objects, one per line. Missing values
/// and non-finite numbers are `null`.
///
/// # Errors
/// Those of the writer.
pub fn write_json_lines(rows: &[impl serde::Serialize], mut writer: impl std::io::Write) -> std::io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut writer, row)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()
}
