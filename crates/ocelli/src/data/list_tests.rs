use super::super::open as open_data;
use super::*;

fn error(text: &str) -> String {
    parse_csv(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn labels_splits_and_groups_are_read() {
    let text = "\u{feff}Path, label, group, split, width\na.png, cat, ann, train, 3\n\"b, c.png\",dog,,val,4\n";
    let list = parse_csv(text.as_bytes()).unwrap();
    assert!(list.targets.is_empty());
    assert_eq!((list.rows[0].line, list.rows[0].path.as_str(), list.rows[0].label.as_str()), (2, "a.png", "cat"));
    assert_eq!((list.rows[0].group.as_deref(), list.rows[0].split), (Some("ann"), Some(Split::Train)));
    assert_eq!((list.rows[1].path.as_str(), list.rows[1].group.as_deref()), ("b, c.png", None));
}

#[test]
fn two_columns_need_no_head_and_numbers_are_targets() {
    let list = parse_csv(b"a.png,7\nb.png,9\n").unwrap();
    assert_eq!((list.rows.len(), list.rows[0].label.as_str()), (2, "7"));
    let list = parse_csv(b"path,angle,speed\na.png,-1.5,2e3\n").unwrap();
    assert_eq!(list.targets, ["angle", "speed"]);
    assert_eq!(list.rows[0].targets, [-1.5, 2000.0]);
}

#[test]
fn faults_come_with_their_line_and_advice() {
    assert!(error("").contains("no pictures in the list"));
    assert!(error("path,label\n").contains("no pictures in the list"));
    assert!(error("file,label,split\na.png,x,train\n").contains("line 1: 3 columns, and none is called 'path'"));
    assert!(error("path,split\na.png,train\n").contains("no column 'label'"));
    assert!(error("path,label,label\n").contains("two columns are called 'label'"));
    assert!(error("path,label\na.png,x\nb.png\n").contains("line 3: 1 fields, the first line has 2"));
    assert!(error("path,label\na.png,x\n\n,y\n").contains("line 4: the path is empty"));
    assert!(error("path,label\na.png,\n").contains("line 2: the label is empty"));
    assert!(error("path,angle\na.png,left\n").contains("line 2: 'left' is not a finite number"));
    assert!(error("path,angle\na.png,NaN\n").contains("line 2: 'NaN'"));
    assert!(error("path,label,split\na.png,x,training\n").contains("line 2: no split is called 'training'"));
    let latin1 = parse_csv(b"path,label\na.png,caf\xe9\n").unwrap_err();
    assert!(latin1.to_string().contains("line 2") && latin1.to_string().contains("UTF-8"), "{latin1}");
}

#[test]
fn a_group_in_two_splits_is_an_error_that_names_both_lines() {
    let text = "path,label,split,group\na.png,x,train,ann\nb.png,x,test,bob\nc.png,x,test,ann\n";
    assert!(error(text).contains("line 4: group 'ann' is in test, but in train on line 2"));
}

#[test]
fn a_path_that_leaves_the_folder_is_refused() {
    assert!(error("path,label\n../../etc/passwd,x\n").contains("line 2: '../../etc/passwd' leaves the folder"));
    assert!(error("path,label\na/../../b.png,x\n").contains("leaves the folder"));
    assert!(parse_csv(b"path,label\na/../b.png,x\n").is_ok());
}

#[test]
fn a_list_becomes_a_data_set_with_whole_groups() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("path,label,group\n");
    for i in 0..60 {
        let name = format!("{i}.png");
        image::GrayImage::from_pixel(3, 3, image::Luma([i])).save(folder.path().join(&name)).unwrap();
        text += &format!("{name},{},person{}\n", ["old", "new"][usize::from(i % 2)], i / 4);
    }
    let path = folder.path().join("faces.csv");
    std::fs::write(&path, &text).unwrap();
    let data = open_data(path.to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!((data.name.as_str(), &data.classes[..]), ("faces", &["new".to_string(), "old".into()][..]));
    let mut seen = HashMap::new();
    for split in Split::ALL {
        assert!(!data.is_empty(split));
        for position in 0..data.len(split) {
            let number: usize = data.picture_name(split, position).trim_end_matches(".png").parse().unwrap();
            assert_eq!(*seen.entry(number / 4).or_insert(split), split, "person {}", number / 4);
            assert_eq!(data.label(split, position), u32::from(number.is_multiple_of(2)));
        }
    }
    std::fs::write(&path, text + "gone.png,old,nobody\n").unwrap();
    let error = open_data(path.to_str().unwrap(), &OpenOptions::default()).unwrap_err();
    assert!(error.what().contains("line 62: there is no file"), "{error}");
    let options = OpenOptions { skip_bad: true, ..Default::default() };
    let data = open_data(path.to_str().unwrap(), &options).unwrap();
    assert!(data.notes.iter().any(|note| note.contains("1 line left out")), "{:?}", data.notes);
}

#[test]
fn targets_reach_the_batches() {
    use super::super::{Loader, Pictures, Preparation, Resize};
    use std::sync::Arc;
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("path,angle,speed,split\n");
    for i in 0..6 {
        image::GrayImage::from_pixel(3, 3, image::Luma([i])).save(folder.path().join(format!("{i}.png"))).unwrap();
        text += &format!("{i}.png,{i},-{i},{}\n", ["train", "val"][usize::from(i % 2)]);
    }
    let path = folder.path().join("drive.csv");
    std::fs::write(&path, text).unwrap();
    let data = Arc::new(open_data(path.to_str().unwrap(), &OpenOptions::default()).unwrap());
    assert!(data.is_regression() && data.classes.is_empty());
    let preparation = Preparation::new([3, 3], 1, Resize::Crop).unwrap();
    let pictures = Pictures::load(&data, Split::Val, &preparation, &Default::default()).unwrap();
    let batch =
        Loader::evaluation(&Arc::new(pictures), &preparation, 8, 1).unwrap().epoch(0, 0).next().unwrap().unwrap();
    assert_eq!(batch.targets, [1.0, -1.0, 3.0, -3.0, 5.0, -5.0]);
    assert!(batch.labels.is_empty());
}
