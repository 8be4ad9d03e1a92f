using MeshProxy.Model.Validation;

namespace MeshProxy.Model.Tests.Validation;

public class RulesTests
{
    [TestCase("a", true), TestCase("a-1", true), TestCase("1a", true), TestCase("", false), TestCase("-a", false), TestCase("a-", false), TestCase("A", false), TestCase("a.b", false), TestCase("a_b", false), TestCase("ä", false)]
    [TestCase("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true), TestCase("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false)]
    public void Labels(string text, bool isGood) => Assert.That(NameRules.CheckLabel(text), isGood ? Is.Null : Is.Not.Empty);

    [TestCase("a.b-c.1", true), TestCase("a..b", false), TestCase(".a", false), TestCase("a.", false), TestCase("a/b", false)]
    public void Names(string text, bool isGood) => Assert.That(NameRules.CheckName(text), isGood ? Is.Null : Is.Not.Empty);

    [TestCase("shop.example.com", true), TestCase("*.example.com", true), TestCase("localhost", true), TestCase("*", false), TestCase("*.*.com", false), TestCase("a.*.com", false), TestCase("10.0.0.1", false), TestCase("::1", false), TestCase("a:80", false), TestCase("A.com", false), TestCase("", false)]
    public void Hostnames(string text, bool isGood) => Assert.That(NameRules.CheckHostname(text), isGood ? Is.Null : Is.Not.Empty);

    [TestCase("app", true), TestCase("meshproxy.io/service-accounts", true), TestCase("/a", false), TestCase("a/", false), TestCase("a/b/c", false), TestCase("-a", false)]
    public void Label_keys(string text, bool isGood) => Assert.That(NameRules.CheckTagKey(text), isGood ? Is.Null : Is.Not.Empty);

    [TestCase("/", true), TestCase("/a/b", true), TestCase("/a%20b", true), TestCase("a", false), TestCase("", false), TestCase("/a//b", false), TestCase("/a/./b", false), TestCase("/a/../b", false), TestCase("/a/..", false), TestCase("/a/.", false), TestCase("/a%2fb", false), TestCase("/a?b", false), TestCase("/a#b", false), TestCase("/a b", false), TestCase("/\u00e4", false), TestCase("/a\n", false)]
    public void Paths(string text, bool isGood) => Assert.That(HttpRules.CheckPath(text), isGood ? Is.Null : Is.Not.Empty);

    [TestCase("/a.*", true), TestCase("(a|b)+", true), TestCase("", false), TestCase("(", false), TestCase("(?=a)", false), TestCase("(a)\\1", false), TestCase("(?<!a)b", false)]
    public void Expressions(string text, bool isGood) => Assert.That(HttpRules.CheckExpression(text), isGood ? Is.Null : Is.Not.Empty);

    [TestCase("x-a", true), TestCase("X_A", true), TestCase("", false), TestCase("a b", false), TestCase(":path", false), TestCase("Host", false), TestCase("Transfer-Encoding", false), TestCase("te", false), TestCase("x-meshproxy-failure", false)]
    public void Changeable_fields(string text, bool isGood) => Assert.That(HttpRules.CheckChangeableFieldName(text), isGood ? Is.Null : Is.Not.Empty);

    [TestCase("", true), TestCase("a\tb", true), TestCase("\u00e4", true), TestCase(" a", false), TestCase("a ", false), TestCase("a\rb", false), TestCase("a\nb", false), TestCase("a\0b", false), TestCase("\u0100", false)]
    public void Field_values(string text, bool isGood) => Assert.That(HttpRules.CheckFieldValue(text), isGood ? Is.Null : Is.Not.Empty);
}
