from html.parser import HTMLParser

from conformance.coverage import coverage
from conformance.report.html import as_html
from tests.conformance.report.samples import REPORT, RESULTS


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_from_elsewhere():
    page = Page(as_html(REPORT, coverage(result.check for result in RESULTS)))
    assert page.links == []
    assert "script" not in page.tags
    assert "@import" not in page.text


def test_text_of_others_is_text_and_no_markup():
    page = Page(as_html(REPORT, []))
    assert "i" not in page.tags
    assert "subject" not in page.tags
    assert "CloudEvents conformance of a <subject>" in page.text
    assert 'a|b `c` <i>&"' in page.text


def test_failures_and_coverage_are_told():
    page = Page(as_html(REPORT, coverage(result.check for result in RESULTS)))
    assert "grave: grave should work" in page.text
    assert "HTTP-DEC-001" in page.text
    assert "good, grave, mild" in page.text
