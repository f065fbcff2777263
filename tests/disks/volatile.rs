//! State that a reboot would empty is refused, unless the configuration allows it.

use std::fs;

use crate::isolated;
use crate::mounts::{mount_tmpfs, must, text};
use crate::world::World;

fn refused_on(kind: &str, world: &World) {
    let config = fs::read_to_string(world.config()).unwrap();
    assert_eq!(world.start().status()["ready"], true, "allowed");
    fs::write(world.config(), config.replace("allow_volatile = true", "")).unwrap();
    let refused = world.refused();
    assert_eq!(refused.code, 73, "{refused:?}");
    for word in [kind, text(&world.state()), "state.allow_volatile"] {
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
}

isolated!(tmpfs_is_refused, &[], || {
    let world = World::at_noon();
    mount_tmpfs(&world.state(), 16);
    refused_on("tmpfs", &world);
});

isolated!(overlay_is_refused, &[], || {
    let world = World::at_noon();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| world.path(name));
    for dir in [&lower, &upper, &work, &world.state()] {
        fs::create_dir(dir).unwrap();
    }
    let layers = format!("lowerdir={},upperdir={},workdir={}", text(&lower), text(&upper), text(&work));
    if crate::mounts::sh(&format!("mount -t overlay -o {layers} overlay '{}'", text(&world.state()))).status.success() {
        refused_on("overlay", &world);
        must("umount", &[text(&world.state())]);
    } else {
        println!("skipped overlay_is_refused: no overlay file systems here");
    }
});
