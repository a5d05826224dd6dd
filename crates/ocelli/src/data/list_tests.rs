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
    assert_eq!(
        (list.rows[0].line, list.rows[0].path.as_str(), &list.rows[0].labels[..]),
        (2, "a.png", &["cat".into()][..])
    );
    assert_eq!((list.rows[0].group.as_deref(), list.rows[0].split), (Some("ann"), Some(Split::Train)));
    assert_eq!((list.rows[1].path.as_str(), list.rows[1].group.as_deref()), ("b, c.png", None));
}

#[test]
fn two_columns_need_no_head_and_numbers_are_targets() {
    let list = parse_csv(b"a.png,7\nb.png,9\n").unwrap();
    assert_eq!((list.rows.len(), &list.rows[0].labels[..]), (2, &["7".into()][..]));
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

#[test]
fn several_labels_a_picture_are_read_and_faults_told() {
    let list = parse_csv(b"path,labels\na.png, dog | cat \nb.png,\nc.png,cat\n").unwrap();
    assert!(list.multi_label && list.targets.is_empty());
    let labels: Vec<&[String]> = list.rows.iter().map(|row| &row.labels[..]).collect();
    assert_eq!(labels, [&["dog".to_string(), "cat".into()][..], &[], &["cat".into()]]);
    assert!(!parse_csv(b"path,label\na.png,dog|cat\n").unwrap().multi_label, "a name with a | in it");
    assert!(error("path,label,labels\na.png,x,y\n").contains("line 1: the columns 'label' and 'labels' at once"));
    assert!(
        error("path,labels\na.png,x\nb.png,x|y|x\n").contains("line 3: the class 'x' twice\nName each class once.")
    );
    assert!(error("path,labels\na.png,x||y\n").contains("line 2: a class without a name in 'x||y'"));
    assert!(error("path,labels\n,x\n").contains("line 2: the path is empty"));
}

#[test]
fn several_labels_reach_the_batches_and_other_models_classes() {
    use super::super::{Loader, Pictures, Preparation, Resize};
    use std::sync::Arc;
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("path,labels,split\n");
    for (i, labels) in ["b", "a|b", "", "c|a"].iter().enumerate() {
        image::GrayImage::from_pixel(3, 3, image::Luma([i as u8]))
            .save(folder.path().join(format!("{i}.png")))
            .unwrap();
        text += &format!("{i}.png,{labels},train\n{i}.png,{labels},val\n");
    }
    let path = folder.path().join("tags.csv");
    std::fs::write(&path, text).unwrap();
    let mut data = open_data(path.to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert!(data.multi_label && data.has_targets() && !data.is_regression());
    assert_eq!(
        (&data.classes[..], data.counts(Split::Val)),
        (&["a".to_string(), "b".into(), "c".into()][..], vec![2, 2, 1])
    );
    let texts: Vec<String> = (0..4).map(|i| data.class_text(Split::Val, i)).collect();
    assert_eq!(texts, ["b", "a|b", "", "a|c"]);
    assert!(data.split_csv().contains("3.png,a|c,val"));
    data.match_classes(&["c".into(), "x".into(), "b".into(), "a".into()]).unwrap();
    let preparation = Preparation::new([3, 3], 1, Resize::Crop).unwrap();
    let pictures = Pictures::load(&Arc::new(data), Split::Val, &preparation, &Default::default()).unwrap();
    let batch =
        Loader::evaluation(&Arc::new(pictures), &preparation, 8, 1).unwrap().epoch(0, 0).next().unwrap().unwrap();
    assert!(batch.labels.is_empty());
    let rows: Vec<&[f32]> = batch.targets.chunks(4).collect();
    assert_eq!(rows, [[0., 0., 1., 0.], [0., 0., 1., 1.], [0., 0., 0., 0.], [1., 0., 0., 1.]]);
    std::fs::write(&path, "path,labels\n0.png,\n1.png,\n").unwrap();
    assert!(
        open_data(path.to_str().unwrap(), &OpenOptions::default())
            .unwrap_err()
            .what()
            .contains("no picture has a class")
    );
}
