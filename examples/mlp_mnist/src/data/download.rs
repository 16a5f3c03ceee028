//! Fetches the four files of MNIST once, and keeps nothing whose SHA-256 differs from the published one.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use thiserror::Error;

/// The largest of the four files has 9.9 MB; whatever is longer is something else.
const SIZE_LIMIT: u64 = 64 << 20;

/// A file of the data set and the SHA-256 under which it was published.
#[derive(Debug, Clone, Copy)]
struct Published {
    name: &'static str,
    sha256: &'static str,
}

const FILES: [Published; 4] = [
    Published {
        name: "train-images-idx3-ubyte.gz",
        sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    },
    Published {
        name: "train-labels-idx1-ubyte.gz",
        sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    },
    Published {
        name: "t10k-images-idx3-ubyte.gz",
        sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    },
    Published {
        name: "t10k-labels-idx1-ubyte.gz",
        sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
];

#[derive(Debug, Error)]
pub enum DownloadError {
    #[error("{url} cannot be fetched: {source}; check the network, or give another mirror with --url")]
    Request { url: String, source: ureq::Error },
    #[error("{url} broke off after {received} bytes: {source}; nothing was kept, run the command again")]
    Transfer { url: String, received: usize, source: io::Error },
    #[error(
        "{url} has the SHA-256 {found}, but {expected} was published; nothing was kept, give another mirror with --url"
    )]
    Checksum { url: String, found: String, expected: &'static str },
    #[error("{} cannot be written: {source}; give --download a folder you may write to", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Makes sure that `folder` holds the four files, fetching from `base` those that are missing or damaged. Returns how
/// many were fetched.
pub fn download(folder: &Path, base: &str) -> Result<usize, DownloadError> {
    fetch_all(&FILES, folder, base)
}

fn fetch_all(files: &[Published], folder: &Path, base: &str) -> Result<usize, DownloadError> {
    fs::create_dir_all(folder).map_err(|source| DownloadError::Write { path: folder.to_owned(), source })?;
    // The connection is refused or answered within seconds; a slow line may take its time for the body.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_recv_body(Some(Duration::from_secs(1_800)))
        // The files are compressed already, and their checksums are those of the compressed bytes.
        .accept_encoding("identity")
        .build()
        .into();
    let mut fetched = 0;
    for file in files {
        let path = folder.join(file.name);
        if fs::read(&path).is_ok_and(|bytes| sha256(&bytes) == file.sha256) {
            continue;
        }
        fetch(&agent, *file, base, &path)?;
        fetched += 1;
    }
    Ok(fetched)
}

/// The body waits in memory until its checksum is right, so that a cut transfer or a killed process leaves no file.
fn fetch(agent: &ureq::Agent, file: Published, base: &str, path: &Path) -> Result<(), DownloadError> {
    let url = format!("{}/{}", base.trim_end_matches('/'), file.name);
    let response = agent.get(&url).call().map_err(|source| DownloadError::Request { url: url.clone(), source })?;
    let body = response.into_body();

    let style = "{msg} {bytes}/{total_bytes} {bar:30} {bytes_per_sec}";
    let bar = body.content_length().map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let bar = bar
        .with_message(file.name)
        .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut bytes = Vec::new();
    let transfer = bar.wrap_read(body.into_reader()).take(SIZE_LIMIT).read_to_end(&mut bytes);
    bar.finish_and_clear();
    if let Err(source) = transfer {
        return Err(DownloadError::Transfer { url, received: bytes.len(), source });
    }

    let found = sha256(&bytes);
    if found != file.sha256 {
        return Err(DownloadError::Checksum { url, found, expected: file.sha256 });
    }
    write_whole(path, &bytes).map_err(|source| DownloadError::Write { path: path.to_owned(), source })
}

/// Writes beside `path` and renames: `path` holds either what it held before or all of `bytes`.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Where downloads are kept when no folder is given: the user's cache, or `data` in the current folder.
pub fn default_folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    cache.map_or_else(|| PathBuf::from("data"), |cache| cache.join("wgpu-optim")).join("mnist")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers every request with `answer(path)` and closes the connection, whatever the header promised.
    fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = String::new();
                let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
                while reader.read_line(&mut request).expect("a request") > 2 {}
                let path = request.split(' ').nth(1).expect("a path").to_owned();
                stream.write_all(&answer(&path)).expect("sent");
            }
        });
        format!("http://{address}/mnist/")
    }

    fn ok(announced: usize, body: &[u8]) -> Vec<u8> {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\nConnection: close\r\n\r\n").into_bytes();
        answer.extend_from_slice(body);
        answer
    }

    const BODY: &[u8] = b"sixteen bytes...";
    const FILE: Published = Published {
        name: "a-file.gz",
        // sha256sum of BODY.
        sha256: "0f1442166d84cb72f5a6f29b63c4e82469086e7d5ebae3082c53050b5c8eb9ae",
    };

    fn entries(folder: &Path) -> Vec<String> {
        let name =
            |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name().to_string_lossy().into_owned();
        fs::read_dir(folder).expect("a folder").map(name).collect()
    }

    fn fetch_from(base: &str, folder: &Path) -> Result<usize, DownloadError> {
        fetch_all(&[FILE], folder, base)
    }

    #[test]
    fn a_good_file_is_kept_and_not_fetched_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let deeper = folder.path().join("made/on/the/way");
        let base = serve(|path| {
            assert_eq!(path, "/mnist/a-file.gz");
            ok(BODY.len(), BODY)
        });
        assert_eq!(fetch_from(&base, &deeper).expect("served"), 1);
        assert_eq!(fs::read(deeper.join("a-file.gz")).expect("kept"), BODY);
        assert_eq!(entries(&deeper), ["a-file.gz"]);
        assert_eq!(fetch_from("http://127.0.0.1:1/", &deeper).expect("no connection is needed"), 0);
    }

    #[test]
    fn a_damaged_file_in_the_cache_is_fetched_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("a-file.gz"), &BODY[..5]).expect("written");
        let base = serve(|_| ok(BODY.len(), BODY));
        assert_eq!(fetch_from(&base, folder.path()).expect("served"), 1);
        assert_eq!(fs::read(folder.path().join("a-file.gz")).expect("kept"), BODY);
    }

    #[test]
    fn a_wrong_checksum_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = serve(|_| ok(BODY.len(), b"sixteen others.."));
        let error = fetch_from(&base, folder.path()).expect_err("another file");
        assert!(matches!(error, DownloadError::Checksum { expected, .. } if expected == FILE.sha256), "{error}");
        assert_eq!(entries(folder.path()), [""; 0]);
    }

    #[test]
    fn a_cut_transfer_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = serve(|_| ok(BODY.len(), &BODY[..10]));
        let error = fetch_from(&base, folder.path()).expect_err("cut");
        assert!(matches!(error, DownloadError::Transfer { received: 10, .. }), "{error}");
        assert_eq!(entries(folder.path()), [""; 0]);
    }

    #[test]
    fn a_missing_file_or_server_is_an_error_with_the_address() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = serve(|_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
        let message = fetch_from(&base, folder.path()).expect_err("404").to_string();
        assert!(message.contains("/mnist/a-file.gz cannot be fetched") && message.contains("404"), "{message}");
        let message = fetch_from("http://127.0.0.1:1", folder.path()).expect_err("nobody listens").to_string();
        assert!(message.contains("http://127.0.0.1:1/a-file.gz cannot be fetched"), "{message}");
        assert_eq!(entries(folder.path()), [""; 0]);
    }
}
