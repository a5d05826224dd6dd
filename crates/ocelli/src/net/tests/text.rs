//! The text form.

use super::*;

#[test]
fn every_net_of_the_zoo_survives_being_written_and_read() {
    for name in Net::zoo_names() {
        let net = Net::zoo(name).unwrap();
        assert_eq!(net.name, name);
        let text = net.to_toml();
        assert_eq!(Net::from_toml(&text, "written.toml").unwrap_or_else(|e| panic!("{e}\n{text}")), net);
    }
}
