-- The files of an owner's last builds that failed or were cancelled, for those who try again.
CREATE TABLE kept_files (
    owner        TEXT    NOT NULL,
    build_seq    INTEGER NOT NULL REFERENCES builds (seq) ON DELETE CASCADE,
    bytes        BLOB    NOT NULL,
    PRIMARY KEY (owner, build_seq)
) STRICT, WITHOUT ROWID;

-- What the removal of a build looks for.
CREATE INDEX kept_files_by_build ON kept_files (build_seq);
