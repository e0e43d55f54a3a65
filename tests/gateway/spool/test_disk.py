from gateway.spool.disk import Disk


class SyncedFolders(Disk):
    def __init__(self):
        self.synced = []

    def fsync_dir(self, folder):
        super().fsync_dir(folder)
        self.synced.append((folder, {path.name for path in folder.iterdir()}))


def test_a_power_cut_leaves_new_folders_their_names(tmp_path):
    disk = SyncedFolders()
    disk.make_folder(tmp_path / "state" / "spool" / "lane")
    for folder, name in (
        (tmp_path, "state"),
        (tmp_path / "state", "spool"),
        (tmp_path / "state" / "spool", "lane"),
    ):
        assert any(path == folder and name in names for path, names in disk.synced), folder


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    disk = SyncedFolders()
    (tmp_path / "lane").mkdir(mode=0o750)
    disk.make_folder(tmp_path / "lane")
    assert disk.synced == []
    assert (tmp_path / "lane").stat().st_mode & 0o777 == 0o750


def test_only_the_owner_may_look_into_the_folder(tmp_path):
    Disk().make_folder(tmp_path / "state" / "lane")
    assert (tmp_path / "state" / "lane").stat().st_mode & 0o777 == 0o700
