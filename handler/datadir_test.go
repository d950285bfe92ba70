package handler

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestDataDir(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the paths below are Linux's")
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for name, c := range map[string]struct {
		root string
		env  map[string]string
		want string // the beginning of the result
	}{
		"setting":          {"/srv/app", map[string]string{"APP_DATA_DIR": "/data", "HOME": "/home/me"}, "/data"},
		"relative setting": {"/srv/app", map[string]string{"APP_DATA_DIR": "data"}, "/"},
		"state":            {"/srv/app", map[string]string{"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/state/durablefunctions/app-"},
		"home":             {"/srv/app", map[string]string{"HOME": "/home/me"}, "/home/me/.local/state/durablefunctions/app-"},
		"odd root":         {"/srv/my app/ü", map[string]string{"HOME": "/home/me"}, "/home/me/.local/state/durablefunctions/_-"},
		"no home":          {"/srv/app", nil, temp + "/durablefunctions-"},
		"relative home":    {"/srv/app", map[string]string{"HOME": "."}, temp + "/durablefunctions-"},
		"Azure":            {"/home/site/wwwroot", map[string]string{"HOME": "/home", "WEBSITE_SITE_NAME": "app"}, temp + "/durablefunctions-"},
	} {
		dir, err := DataDir(c.root, func(name string) string { return c.env[name] })
		if err != nil || !strings.HasPrefix(dir, c.want) || !filepath.IsAbs(dir) {
			t.Errorf("%s: %s, %v; want %s…", name, dir, err, c.want)
		}
		if strings.HasPrefix(dir, c.root+"/") {
			t.Errorf("%s: %s lies below the app root", name, dir)
		}
	}
	home := func(name string) string { return map[string]string{"HOME": "/home/me"}[name] }
	one, _ := DataDir("/srv/one/app", home)
	two, _ := DataDir("/srv/two/app", home)
	if one == two {
		t.Errorf("two app roots share %s", one)
	}
}

// TestDataDirOfAnother: what somebody else may have put into the temporary directory is not used.
func TestDataDirOfAnother(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the temporary directory is the user's own there")
	}
	for name, prepare := range map[string]func(dir string) error{
		"open to others": func(dir string) error { return os.Mkdir(dir, 0o700) },
		"a file":         func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"a link":         func(dir string) error { return os.Symlink(t.TempDir(), dir) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			none := func(string) string { return "" }
			dir, err := DataDir("/srv/app", none)
			if err != nil {
				t.Fatal(err)
			}
			private := filepath.Dir(dir)
			if err := os.Remove(private); err != nil {
				t.Fatal(err)
			}
			if err := prepare(private); err != nil {
				t.Fatal(err)
			}
			if name == "open to others" {
				if err := os.Chmod(private, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			if dir, err := DataDir("/srv/app", none); err == nil || !strings.Contains(err.Error(), "APP_DATA_DIR") {
				t.Errorf("got %s, %v", dir, err)
			}
		})
	}
}
