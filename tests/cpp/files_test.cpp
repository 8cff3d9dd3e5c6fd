#include "platform/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "platform/mapped_file.h"
#include "temporary_directory.h"

namespace tempra::platform {
namespace {

class FilesTest : public ::testing::Test {
  protected:
    void TearDown() override { set_write_fault({}); }
    TemporaryDirectory folder_;
};

TEST_F(FilesTest, WritesAndReadsBack) {
    File file = File::create(folder_ / "a");
    file.write("hello", 5);
    file.write(" world", 6);
    file.sync();
    file.close();
    EXPECT_EQ(read_text(folder_ / "a"), "hello world");
    File reader = File::open_for_reading(folder_ / "a");
    EXPECT_EQ(reader.size(), 11);
    char bytes[32];
    EXPECT_EQ(reader.read(bytes, 32), 11);
    EXPECT_EQ(reader.read(bytes, 32), 0);
    EXPECT_EQ(error_of<IoError>([&] { (void)File::create_new(folder_ / "a"); }),
              "create " + folder_ / "a" + ": File exists");
}

TEST_F(FilesTest, ErrorsNameOperationPathAndReason) {
    const std::string missing = folder_ / "no/such";
    EXPECT_EQ(error_of<IoError>([&] { (void)File::open_for_reading(missing); }),
              "open " + missing + ": No such file or directory");
    EXPECT_EQ(error_of<IoError>([&] { (void)File::create(missing); }),
              "create " + missing + ": No such file or directory");
    EXPECT_EQ(error_of<IoError>([&] { (void)list_directory(missing); }),
              "list " + missing + ": No such file or directory");
    EXPECT_EQ(error_of<IoError>([&] { rename_path(missing, folder_ / "b"); }),
              "rename " + missing + " to " + folder_ / "b" + ": No such file or directory");
    EXPECT_EQ(error_of<IoError>([&] { sync_directory(missing); }),
              "sync " + missing + ": No such file or directory");
    EXPECT_EQ(error_of<IoError>([&] { (void)free_space(missing); }),
              "free space of " + missing + ": No such file or directory");
    EXPECT_EQ(error_of<IoError>([&] { MappedFile mapped(folder_.path()); }),
              "open " + folder_.path() + ": Is a directory");
    write_text(folder_ / "plain", "x");
    EXPECT_EQ(error_of<IoError>([&] { make_directories(folder_ / "plain/below"); }),
              "make folder " + folder_ / "plain" + ": File exists");
    EXPECT_EQ(error_of<IoError>([&] { remove_file(folder_ / "plain/below"); }),
              "remove " + folder_ / "plain/below" + ": Not a directory");
    try {
        (void)File::open_for_reading(missing);
    } catch (const IoError& error) {
        EXPECT_EQ(error.error_number(), ENOENT);
    }
}

TEST_F(FilesTest, SpecialFilesAreNotMapped) {
    ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
    const std::string path = "/dev/zero";
    EXPECT_EQ(error_of<IoError>([&] { MappedFile mapped(path); }),
              "open /dev/zero: not a regular file");
}

TEST_F(FilesTest, MapsFilesEmptyOnesIncluded) {
    write_text(folder_ / "full", "abc");
    write_text(folder_ / "empty", "");
    MappedFile full(folder_ / "full");
    ASSERT_EQ(full.size(), 3);
    EXPECT_EQ(static_cast<char>(full.data()[2]), 'c');
    MappedFile empty(folder_ / "empty");
    EXPECT_EQ(empty.size(), 0);
    EXPECT_EQ(empty.data(), nullptr);
    empty = std::move(full);
    EXPECT_EQ(empty.size(), 3);
    EXPECT_EQ(empty.path(), folder_ / "full");
    const MappedFile moved(std::move(empty));
    EXPECT_EQ(static_cast<char>(moved.data()[0]), 'a');
}

TEST_F(FilesTest, FoldersAreMadeListedAndRemoved) {
    make_directories(folder_ / "x/y/z");
    make_directories(folder_ / "x/y/z");
    write_text(folder_ / "x/file", "1");
    ASSERT_EQ(symlink("/nowhere", (folder_ / "x/link").c_str()), 0);
    const auto entries = list_directory(folder_ / "x");
    ASSERT_EQ(entries.size(), 3U);
    EXPECT_EQ(entries[0].name, "file");
    EXPECT_FALSE(entries[1].is_directory);
    EXPECT_TRUE(entries[2].is_directory);
    EXPECT_TRUE(is_directory(folder_ / "x"));
    EXPECT_TRUE(exists(folder_ / "x/link"));
    remove_tree(folder_ / "x");
    EXPECT_FALSE(exists(folder_ / "x"));
    remove_tree(folder_ / "x");
    remove_file(folder_ / "x");
    EXPECT_GT(free_space(folder_.path()), 0);
}

// A link to a folder is removed, not what it points to.
TEST_F(FilesTest, RemovingATreeDoesNotFollowLinks) {
    make_directories(folder_ / "kept");
    write_text(folder_ / "kept/file", "1");
    make_directories(folder_ / "gone");
    ASSERT_EQ(symlink((folder_ / "kept").c_str(), (folder_ / "gone/link").c_str()), 0);
    remove_tree(folder_ / "gone");
    EXPECT_EQ(read_text(folder_ / "kept/file"), "1");
}

TEST(FilePaths, ParentAndName) {
    const auto check = [](const char* path, const char* parent, const char* name) {
        EXPECT_EQ(parent_directory(path), parent) << path;
        EXPECT_EQ(file_name(path), name) << path;
    };
    check("/a/b", "/a", "b");
    check("/a", "/", "a");
    check("a", ".", "a");
    check("a/b/", "a", "b");
    check("/", "/", "");
    check("", ".", "");
}

TEST_F(FilesTest, LockIsExclusiveUntilReleasedAndSeenByOtherProcesses) {
    const std::string path = folder_ / "lock";
    {
        const auto lock = FileLock::try_acquire(path);
        ASSERT_TRUE(lock.has_value());
        EXPECT_FALSE(FileLock::try_acquire(path).has_value());
        const pid_t child = fork();
        if (child == 0) _exit(FileLock::try_acquire(path).has_value() ? 1 : 0);
        int status = 0;
        waitpid(child, &status, 0);
        EXPECT_EQ(WEXITSTATUS(status), 0);
    }
    EXPECT_TRUE(FileLock::try_acquire(path).has_value());
}

TEST_F(FilesTest, EachCountedOperationCanFail) {
    const std::string path = folder_ / "a";
    const auto everything = [&] {
        File file = File::create(path);    // 1
        file.write("12345678", 8);         // 2
        file.sync();                       // 3
        file.close();                      // 4
        rename_path(path, folder_ / "b");  // 5
        sync_directory(folder_.path());    // 6
        make_directories(folder_ / "c");   // 7
    };
    const std::string expected[] = {"create " + path,
                                    "write " + path,
                                    "sync " + path,
                                    "close " + path,
                                    "rename " + path + " to " + folder_ / "b",
                                    "sync " + folder_.path(),
                                    "make folder " + folder_ / "c"};
    for (int operation = 1; operation <= 7; ++operation) {
        set_write_fault({operation, ENOSPC});
        EXPECT_EQ(error_of<IoError>(everything),
                  expected[operation - 1] + ": No space left on device");
        EXPECT_EQ(write_operation_count(), operation);
    }
    set_write_fault({8, ENOSPC});
    everything();
    EXPECT_EQ(write_operation_count(), 7);
    EXPECT_EQ(read_text(folder_ / "b"), "12345678");
}

TEST_F(FilesTest, ShortAndPersistentFaults) {
    const std::string path = folder_ / "a";
    set_write_fault({2, EIO, true});
    {
        File file = File::create(path);
        EXPECT_EQ(error_of<IoError>([&] { file.write("12345678", 8); }),
                  "write " + path + ": Input/output error");
        file.write("x", 1);  // the fault was for one operation
    }
    EXPECT_EQ(read_text(path), "1234x");
    set_write_fault({2, ENOSPC, false, true});
    File file = File::create(path);
    for (int i = 0; i < 3; ++i) EXPECT_THROW(file.write("x", 1), IoError);
    EXPECT_THROW(file.close(), IoError);
    EXPECT_EQ(read_text(path), "");
    set_write_fault({});
    File::create(path).close();
}

}  // namespace
}  // namespace tempra::platform
