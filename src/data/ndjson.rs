//! Datasets as lines of JSON, in Ultralytics' schema: the first line describes the dataset, each other an image.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::DataError;
use super::listing::{Listing, roots, sorted};
use super::text;

/// Maximum bytes of a file.
const MOST_BYTES: u64 = 1 << 30;

/// A line. Names of classes and annotations are ignored.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Dataset {
        path: Option<String>,
    },
    Image {
        file: String,
        url: Option<String>,
        split: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// An image of a split.
struct Image {
    file: String,
    split: String,
    has_url: bool,
}

/// The images of the split `val`, or of `train` if there are none. An image is at its `file`, or where the vendor's tools
/// put those that they download: `images/SPLIT/FILE`.
pub(super) fn read(path: &Path) -> Result<Listing, DataError> {
    let bad = |reason: String| DataError::Description { path: path.into(), reason };
    let (mut folder, mut images) = (None, Vec::new());
    for (i, line) in text::read(path, MOST_BYTES)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line).map_err(|e| bad(format!("line {} describes no image: {e}", i + 1)))? {
            Line::Dataset { path } => folder = folder.or(path),
            Line::Image { file, url, split } => {
                images.push(Image { file, split: split.unwrap_or_else(|| "train".into()), has_url: url.is_some() });
            }
            Line::Other => {}
        }
    }
    let chosen = ["val", "train"].into_iter().find(|split| images.iter().any(|image| image.split == *split));
    let split = chosen.ok_or_else(|| bad("it names neither `val` nor `train` pictures".into()))?;
    images.retain(|image| image.split == split);
    let roots = roots(path.parent().unwrap_or(Path::new("")), folder.as_deref());
    let places = |image: &Image| -> Vec<PathBuf> {
        let of = |root: &PathBuf| [root.join(&image.file), root.join("images").join(split).join(&image.file)];
        roots.iter().flat_map(of).collect()
    };
    let found = |image: &Image| places(image).into_iter().find(|place| place.exists());
    if images.iter().all(|image| found(image).is_none()) {
        let tried = images.first().map(places).unwrap_or_default();
        let tried: Vec<String> = tried.iter().map(|place| place.display().to_string()).collect();
        let urls = match images.iter().any(|image| image.has_url) {
            true => "; they have URLs, but qcc downloads nothing: download them to one of these places",
            false => "",
        };
        return Err(bad(format!("its pictures are not there (tried {}){urls}", tried.join(", "))));
    }
    // Images that are missing among others are reported when they are read.
    let pictures = images.iter().filter_map(|image| found(image).or_else(|| places(image).into_iter().next()));
    Ok(Listing { pictures: sorted(pictures.collect()), lists: vec![path.into()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"type":"dataset","task":"detect","name":"d","class_names":{"0":"a"}}"#;

    /// A folder with pictures and a dataset of these lines.
    fn read_in(files: &[&str], head: &str, images: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let at = dir.path().join(file);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, "").unwrap();
        }
        let image = |(file, split): &(&str, &str)| {
            let url = r#""url":"https://example.com/a.jpg","width":8,"height":8"#;
            format!(r#"{{"type":"image","file":"{file}",{url},"split":"{split}","annotations":{{}}}}"#)
        };
        let lines: Vec<String> = std::iter::once(head.to_owned()).chain(images.iter().map(image)).collect();
        let at = dir.path().join("d.ndjson");
        std::fs::write(&at, lines.join("\n") + "\n\n").unwrap();
        let name = |p: &PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
        match super::read(&at) {
            Ok(found) => Ok(found.pictures.iter().map(name).collect()),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn images_of_val_go_before_those_of_train() {
        let both = [("b.jpg", "val"), ("a.jpg", "val"), ("t.jpg", "train"), ("u.jpg", "test")];
        assert_eq!(read_in(&["a.jpg", "b.jpg", "t.jpg"], HEAD, &both).unwrap(), ["a.jpg", "b.jpg"]);
        assert_eq!(read_in(&["t.jpg"], HEAD, &both[2..]).unwrap(), ["t.jpg"]);
        assert!(read_in(&["u.jpg"], HEAD, &both[3..]).unwrap_err().contains("neither `val` nor `train`"));
    }

    #[test]
    fn images_are_beside_the_file_or_below_its_path() {
        let one = [("a.jpg", "val")];
        assert_eq!(read_in(&["images/val/a.jpg"], HEAD, &one).unwrap(), ["images/val/a.jpg"]);
        let placed = r#"{"type":"dataset","path":"sub"}"#;
        assert_eq!(read_in(&["sub/a.jpg"], placed, &one).unwrap(), ["sub/a.jpg"]);
        // A missing one is reported when it is read.
        assert_eq!(read_in(&["b.jpg"], HEAD, &[one[0], ("b.jpg", "val")]).unwrap(), ["a.jpg", "b.jpg"]);
    }

    #[test]
    fn images_that_are_only_urls_are_refused() {
        let error = read_in(&[], HEAD, &[("a.jpg", "val")]).unwrap_err();
        assert!(error.contains("images/val/a.jpg") && error.contains("qcc downloads nothing"), "{error}");
        let error = read_in(&[], HEAD, &[("a.jpg\"", "val")]).unwrap_err();
        assert!(error.contains("line 2 describes no image"), "{error}");
        assert!(read_in(&[], "no json", &[]).unwrap_err().contains("line 1 describes no image"));
    }
}
