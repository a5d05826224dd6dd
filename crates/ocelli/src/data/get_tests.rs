use super::*;
use std::io::Write;

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// A file with the text "hello" under an address that needs no network.
fn remote(folder: &Path, sha256: &'static str) -> Remote {
    let source = folder.join("source");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("hello.txt"), "hello").unwrap();
    let url = format!("file://{}", source.join("hello.txt").display());
    Remote { url: String::leak(url), sha256 }
}

#[test]
fn without_curl_the_address_and_the_place_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let remote = remote(folder.path(), HELLO);
    let error = fetch("no-such-curl", &remote, folder.path(), false).unwrap_err().to_string();
    assert!(error.contains("no-such-curl cannot be run"), "{error}");
    assert!(error.contains(remote.url) && error.contains("by hand"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_file_is_fetched_resumed_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let remote = remote(folder.path(), HELLO);
    let (file, part) = (folder.path().join("hello.txt"), folder.path().join("hello.txt.part"));
    for begun in [None, Some("he"), Some("hello"), Some("another file, longer than it")] {
        if let Some(begun) = begun {
            std::fs::write(&part, begun).unwrap();
        }
        assert_eq!(fetch("curl", &remote, folder.path(), false).unwrap(), file);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello");
        assert!(!part.exists());
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(&file, "hello").unwrap();
    assert!(fetch("no-such-curl", &remote, folder.path(), false).is_ok(), "what is there is not fetched again");
}

#[cfg(unix)]
#[test]
fn another_content_or_none_is_an_error_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = remote(folder.path(), "00");
    let error = fetch("curl", &wrong, folder.path(), false).unwrap_err();
    assert!(error.what().contains(HELLO) && error.to_string().contains("do not use it"), "{error}");
    let gone = Remote { url: "file:///no/such/file", sha256: HELLO };
    assert!(fetch("curl", &gone, folder.path(), false).unwrap_err().to_string().contains("it resumes"));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["source"]);
}

#[test]
fn an_archive_is_unpacked_and_a_damaged_one_is_named() {
    let record = |name: &str, length: &str, bytes: &[u8]| {
        let mut record = vec![0; 512];
        record[..name.len()].copy_from_slice(name.as_bytes());
        record[124..124 + length.len()].copy_from_slice(length.as_bytes());
        record.extend(bytes);
        record.resize(record.len().next_multiple_of(512), 0);
        record
    };
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a.tar.gz");
    let pack = |records: &[Vec<u8>]| {
        let mut gzip =
            flate2::write::GzEncoder::new(std::fs::File::create(&archive).unwrap(), flate2::Compression::fast());
        gzip.write_all(&records.concat()).unwrap();
        gzip.finish().unwrap();
        unpack(&archive, folder.path())
    };
    let five = record("dir/../../up/one.bin", "00000000005\0", b"12345");
    pack(&[record("dir/", "00000000000", b""), five, record("readme.html", "3", b"abc"), vec![0; 1024]]).unwrap();
    assert_eq!(std::fs::read(folder.path().join("one.bin")).unwrap(), b"12345");
    assert!(!folder.path().join("readme.html").exists());
    assert!(pack(&[record("two.bin", "77777777777", b"")]).unwrap_err().what().contains("length of two.bin"));
    assert!(pack(&[record("two.bin", "2000", b"12")]).unwrap_err().what().contains("two.bin is cut short"));
}

#[test]
fn what_is_inside_needs_no_download() {
    let error = super::super::known("mnist-10k").unwrap().get(Path::new("unused"), false).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("ocelli train --data mnist-10k"), "{error}");
}

#[test]
fn every_download_has_a_whole_checksum() {
    for remote in super::super::KNOWN.iter().flat_map(|known| known.files) {
        assert!(
            remote.sha256.len() == 64 && remote.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{}",
            remote.url
        );
    }
}
